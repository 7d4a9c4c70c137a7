"""`llamero chat` on a real terminal (a pty): editing, history, commands, Ctrl-C, leaving."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from llamero.model.config import Config

ENTER, CTRL_C, CTRL_D, ALT_ENTER, UP = "\r", "\x03", "\x04", "\x1b\r", "\x1b[A"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[>=78]|\x1b\][^\x07]*\x07|\r")


class Terminal:
    """A program on a pty: type into it, and wait for words."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self._master, slave = pty.openpty()
        env = {**os.environ, "XDG_STATE_HOME": str(folder), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llamero", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.close(slave)
        self.shown = ""

    def type(self, keys: str) -> None:
        self.shown = ""
        os.write(self._master, keys.encode())

    def wait(self, words: str, seconds: float = 30) -> str:
        """Read until the words are on the screen. Before a control key, wait for the prompt, which reads keys."""
        end = time.monotonic() + seconds
        while words not in self.shown:
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{words!r} never came; the screen shows {self.shown!r}"
            try:
                data = os.read(self._master, 65536)
            except OSError:
                data = b""
            assert data, f"the program has ended without {words!r}: {self.shown!r}"
            self.shown = _ESCAPES.sub("", self.shown + data.decode(errors="replace"))
        return self.shown

    def leave(self, seconds: float = 30) -> int:
        """Read what is left and wait for the end."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    os.read(self._master, 65536)
                except OSError:
                    break
        return self.process.wait(5)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(5)
        os.close(self._master)


def _own_terminal() -> None:
    """Make the pty the controlling terminal, so that Ctrl-C becomes a signal."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


Open = Callable[..., Terminal]


@pytest.fixture
def chat(models: Path, tmp_path: Path) -> Iterator[Open]:
    opened: list[Terminal] = []

    def start(*words: str, model: Path | None = None) -> Terminal:
        terminal = Terminal(["chat", "-m", str(model or models / "chatty.gguf"), *words], tmp_path)
        opened.append(terminal)
        terminal.wait("/help helps")
        terminal.wait(">")
        return terminal

    yield start
    for terminal in opened:
        terminal.close()


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory, chain_file: Callable[..., Path], config: Config) -> Path:
    """A model that never ends: after "!" it begins again."""
    path = tmp_path_factory.mktemp("endless") / "endless.gguf"
    output = np.zeros((config.vocab, config.dim), np.float32)
    output[259, :] = 1.0  # "Here" follows everything
    return chain_file(path, "{{ messages[-1].content }}", output=output)


def test_a_conversation(chat: Open, tale: str, tmp_path: Path) -> None:
    terminal = chat("--temperature", "0", "--overflow", "truncate")
    terminal.type("abc" + ENTER)
    terminal.wait(tale)
    terminal.wait("answer 18 tokens at ")
    terminal.type("one\\" + ENTER)
    terminal.wait("…")
    terminal.type("two" + ENTER)
    terminal.wait(tale)
    terminal.wait("seed")
    terminal.wait("]\n>")
    terminal.type("three" + ALT_ENTER + "four" + ENTER)
    terminal.wait(tale)
    terminal.wait("seed")
    terminal.wait("]\n>")
    terminal.type('"""five' + ENTER)
    terminal.wait("…")
    terminal.type('six"""' + ENTER)
    terminal.wait(tale)
    terminal.wait("seed")
    terminal.wait("]\n>")
    saved = tmp_path / "talk.json"
    terminal.type(f"/save {saved}" + ENTER)
    terminal.wait("talk.json\n>")
    assert "saved 8 messages" in terminal.shown
    users = [message["content"] for message in json.loads(saved.read_text())["messages"][::2]]
    assert users == ["abc", "one\ntwo", "three\nfour", "five\nsix"]
    terminal.type(CTRL_D)
    assert terminal.leave() == 0


def test_history_is_kept_between_sessions_and_private(chat: Open, tale: str, tmp_path: Path) -> None:
    first = chat("--temperature", "0")
    first.type("abc" + ENTER)
    first.wait("seed")
    first.type("/exit" + ENTER)
    assert first.leave() == 0
    history = tmp_path / "llamero" / "history"
    assert "+abc" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    second = chat("--temperature", "0")
    second.type(UP + UP)
    second.wait("abc")
    second.type(ENTER)
    second.wait(tale)


def test_ctrl_c_stops_the_answer_and_not_the_program(chat: Open, endless: Path) -> None:
    terminal = chat("--max-tokens", "1000000", "--overflow", "shift", model=endless)
    terminal.type("abc" + ENTER)
    terminal.wait("Here Here Here")
    terminal.type(CTRL_C * 3)  # an impatient hand must not leave the program
    terminal.wait("; stopped; ")
    terminal.wait("]\n>")
    terminal.type("/set max_tokens 2" + ENTER)
    terminal.wait("max_tokens = 2")
    terminal.type("/regen" + ENTER)
    terminal.wait("answer 2 tokens")
    terminal.wait("]\n>")
    assert "cached" in terminal.shown
    terminal.type(CTRL_D)
    assert terminal.leave() == 0


def test_ctrl_c_on_an_empty_line_warns_once_and_leaves_at_the_second(chat: Open, tale: str) -> None:
    terminal = chat("--temperature", "0")
    terminal.type("half a line")
    terminal.wait("half a line")
    terminal.type(CTRL_C)  # clears the line
    terminal.type("abc" + ENTER)
    terminal.wait(tale)
    terminal.wait("seed")
    terminal.wait("]\n>")
    terminal.type(CTRL_C)
    terminal.wait("leaves)\n>")
    terminal.type("abc" + ENTER)  # not meant after all
    terminal.wait("seed")
    terminal.wait("]\n>")
    terminal.type(CTRL_C)
    terminal.wait("leaves)\n>")
    terminal.type(CTRL_C)
    assert terminal.leave() == 0


def test_commands(chat: Open, tale: str, tmp_path: Path) -> None:
    terminal = chat("--temperature", "0", "--system", "abc")
    for typed, shown in [
        ("/help", "Ctrl-C stops an answer"),
        ("/system", "system: abc"),
        ("/system bac", "system: bac"),
        ("/system -", "there is no system message"),
        ("/set", "typical_p = 1.0"),
        ("/set top_k 4", "top_k = 4"),
        ("/set top_k", "top_k = 0"),
        ("/set top_k many", "error: top_k cannot be 'many'"),
        ("/set temprature 1", "error: there is no setting 'temprature': did you mean 'temperature'?"),
        ("/set temperature -3", "error: temperature must be a number from 0 to 100"),
        ("/set stop hums", "stop = hums"),
        ("/set overflow ignore", "error: overflow policy"),
        ("/regen", "error: there is no question to answer again"),
        ("/save", "error: /save needs a file's name"),
        (f"/load {tmp_path}/none.json", "error: "),
        ("/clera", "error: there is no command '/clera': did you mean '/clear'?"),
    ]:
        terminal.type(typed + ENTER)
        terminal.wait(shown)
        terminal.wait(">")
    terminal.type("abc" + ENTER)
    terminal.wait(tale.split("hums")[0])
    terminal.wait("seed")
    terminal.wait("]\n>")
    terminal.type(f"/save {tmp_path}/talk.json" + ENTER)
    terminal.wait("saved 2 messages")
    terminal.type("/clear" + ENTER)
    terminal.wait("a new conversation")
    terminal.type(f"/load {tmp_path}/talk.json" + ENTER)
    terminal.wait("loaded 2 messages")
    terminal.type("/regen" + ENTER)
    terminal.wait("cached")
    (tmp_path / "bad.json").write_text('{"messages": 3}')
    terminal.type(f"/load {tmp_path}/bad.json" + ENTER)
    terminal.wait("is not a conversation that /save wrote")
    terminal.type("/exit" + ENTER)
    assert terminal.leave() == 0
