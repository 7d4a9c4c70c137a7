"""A conversation and its slash commands. Knows how to talk to a model; of screens and keys it knows nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from llamero.engine.context import check_policy
from llamero.engine.request import Request
from llamero.engine.sampling import Sampling
from llamero.errors import FormatError, SettingError, nearest
from llamero.formats.atomic import atomic_file
from llamero.interfaces.completion import Stream
from llamero.interfaces.llama import Llama

HELP = """\
/help            show this
/system [TEXT]   say how the assistant is to behave; without TEXT show it, with - take it away
/set [NAME [VALUE]]
                 show the settings, or change one (/set temperature 0.2); without VALUE it goes back to its default
/regen           answer the last question again
/save FILE       write the conversation to a file
/load FILE       go on with a saved conversation
/clear           begin a new conversation
/exit            leave (so does Ctrl-D)

A line that ends in \\ goes on in the next; so does everything between two lines of \"\"\". Alt-Enter makes a new line.
Ctrl-C stops an answer."""
_TEXT_SETTINGS = ("stop", "overflow", "adapter")


class Session:
    """Messages so far, and how answers are made."""

    def __init__(self, llama: Llama, options: Mapping[str, Any], system: str | None = None) -> None:
        self.llama = llama
        self.options = dict(options)
        self.system = system
        self.messages: list[dict[str, Any]] = []  # without the system message
        self._commands: dict[str, Callable[[str], str]] = {
            "/help": lambda _: HELP,
            "/system": self._system,
            "/set": self._set,
            "/save": self._save,
            "/load": self._load,
            "/clear": self._clear,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Every command, with those that the conversation's owner carries out (/regen, /exit)."""
        return (*self._commands, "/regen", "/exit")

    def say(self, text: str) -> None:
        """Add what the user says."""
        self.messages.append({"role": "user", "content": text})

    def answer(self, progress: Callable[[int, int], None]) -> Stream:
        """Begin the assistant's answer; `keep` or `take_back` it afterwards."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return self.llama.chat([*system, *self.messages], stream=True, progress=progress, **self.options)

    def keep(self, stream: Stream) -> None:
        """Make an answer, whole or stopped, part of the conversation."""
        self.messages.append(stream.completion.message)

    def take_back(self) -> None:
        """Forget a question that could not be answered."""
        if self.messages and self.messages[-1]["role"] == "user":
            self.messages.pop()

    def rewind(self) -> None:
        """Take back the last answer, so that the question can be answered again. Raises SettingError."""
        while self.messages and self.messages[-1]["role"] != "user":
            self.messages.pop()
        if not self.messages:
            raise SettingError("there is no question to answer again")

    def command(self, line: str) -> str:
        """Carry out a slash command and give what it says. Raises LlameroError, OSError."""
        name, _, rest = line.strip().partition(" ")
        if name not in self._commands:
            raise SettingError(f"there is no command {name!r}: {nearest(name, self.names)} (/help shows all)")
        return self._commands[name](rest.strip())

    def _system(self, text: str) -> str:
        if text:
            self.system = None if text == "-" else text
        return f"system: {self.system}" if self.system else "there is no system message"

    def _set(self, rest: str) -> str:
        name, _, value = rest.partition(" ")
        if not name:
            return "\n".join(f"{name} = {value}" for name, value in self._settings().items())
        if name not in self._settings():
            raise SettingError(f"there is no setting {name!r}: {nearest(name, self._settings())}")
        changed = {key: old for key, old in self.options.items() if key != name}
        if value.strip():
            changed[name] = _parse(name, value.strip())
        _check(changed)
        self.options = changed
        return f"{name} = {self._settings()[name]}"

    def _settings(self) -> dict[str, Any]:
        sampling = {item.name: getattr(Sampling(), item.name) for item in fields(Sampling)}
        return sampling | {"max_tokens": None, "stop": None, "overflow": "error", "adapter": None} | self.options

    def _save(self, rest: str) -> str:
        path = _path(rest, "/save")
        saved = {"system": self.system, "messages": self.messages, "settings": self.options}
        with atomic_file(path) as file:
            file.write(json.dumps(saved, ensure_ascii=False, indent=2).encode() + b"\n")
        return f"saved {len(self.messages)} messages to {path}"

    def _load(self, rest: str) -> str:
        path = _path(rest, "/load")
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            system, messages, options = saved["system"], saved["messages"], saved["settings"]
            _check(options)
            checked = [{"role": str(message["role"]), "content": str(message["content"])} for message in messages]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path} is not a conversation that /save wrote ({error})") from error
        self.system, self.messages, self.options = system, checked, dict(options)
        return f"loaded {len(self.messages)} messages from {path}"

    def _clear(self, _: str) -> str:
        self.messages = []
        return "a new conversation"


def _path(rest: str, command: str) -> Path:
    if not rest:
        raise SettingError(f"{command} needs a file's name")
    return Path(rest).expanduser()


def _parse(name: str, value: str) -> Any:
    """A setting as it is typed: JSON, or plain words for those that are text."""
    if name in _TEXT_SETTINGS and not value.startswith(("[", '"')):
        return value
    try:
        read = json.loads(value)
    except ValueError:
        raise SettingError(f"{name} cannot be {value!r}; give a number, or nothing for the default") from None
    if name == "logit_bias" and isinstance(read, dict):
        return {int(token): bias for token, bias in read.items()}
    return read


def _check(options: Mapping[str, Any]) -> None:
    """Raise SettingError for settings that no answer could be made with."""
    request = ("max_tokens", "overflow", "stop", "adapter")
    Sampling.of({name: value for name, value in options.items() if name not in request}, also=request)
    check_policy(options.get("overflow", "error"))
    Request(prompt=(0,), max_tokens=options.get("max_tokens"))
