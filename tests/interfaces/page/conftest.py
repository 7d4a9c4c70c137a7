"""Debian's Chromium, driving the page of real servers. Whatever the page does, it may not break its own rules.

Needs the package `chromium` and the [peers] extra; these tests are run with `pytest -m peers`.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from llamero.formats.gguf import write_gguf
from llamero.model.config import Config
from llamero.model.config_files import config_to_gguf
from llamero.model.weights import named_tensors

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium")
ELSEWHERE = "elsewhere.test"
ARGUMENTS = ["--no-sandbox", f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"]
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
    window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.peers)
            item.add_marker(pytest.mark.timeout(300))
            if CHROMIUM:  # beside Playwright's greenlet CPython 3.11 cannot parse the sources that pytest would show
                config.option.tbstyle = "native"


@contextmanager
def serving(*words: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of `llamero serve` on a free port, and what kills it."""
    command = [sys.executable, "-m", "llamero", "serve", "--port", "0", "--threads", "1", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    told: list[str] = []
    try:
        for line in process.stderr:
            told.append(line)
            if found := re.search(r"its page is (http://\S+?)\]", line):
                break
        else:
            pytest.fail("".join(told))
        reader = Thread(target=process.stderr.read)  # or the server would wait for us at last
        reader.start()
        yield found[1], process.kill
    finally:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        process.stderr.close()


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., str]]:
    """Starts servers that end with the module."""
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(serving(*words))[0]


@pytest.fixture
def mortal() -> Iterator[Callable[..., tuple[str, Callable[[], None]]]]:
    """Starts servers that can be killed."""
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(serving(*words))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the [peers] extra")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page of a server in a browser of its own; options are those of a Playwright context.

    script: runs before the page's own. At the end no script may have failed, no rule of the page's
    Content-Security-Policy may have been broken, and no request may have gone to another host.
    """
    contexts: list[tuple[Any, str]] = []
    asked: list[str] = []
    failed: list[str] = []

    def visit(address: str, script: str = "", **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        context.set_default_timeout(60_000)
        context.add_init_script(WATCH + script)
        context.on("request", lambda request: asked.append(request.url))
        context.on("weberror", lambda error: failed.append(str(error.error)))
        contexts.append((context, address))
        page = context.new_page()
        page.goto(address)
        ready(page)
        return page

    yield visit
    violations = [
        each for context, _ in contexts for page in context.pages for each in page.evaluate("window.violations ?? []")
    ]
    for context, _ in contexts:
        context.close()
    assert not failed
    assert not violations
    hosts = {urlsplit(address).netloc for _, address in contexts}
    strangers = [url for url in asked if not url.startswith("blob:") and urlsplit(url).netloc not in hosts]
    assert not strangers


@pytest.fixture
def elsewhere() -> str:
    """A name of this machine that the browser takes for another's."""
    return ELSEWHERE


@pytest.fixture(scope="module")
def tales(serve: Callable[..., str], models: Path) -> str:
    """The address of a server whose model tells one tale."""
    return serve("-m", f"chain={models / 'chatty.gguf'}")


@pytest.fixture(scope="module")
def stories(serve: Callable[..., str]) -> str:
    """The address of a server of the model inside."""
    return serve()


def write_speaker(path: Path, text: str, template: str, *, endless: bool = False, context: int = 2048) -> Path:
    """A model that says `text`, whatever it is asked; once, or for ever.

    Its tokens are pieces of the text; its output gives each the next one, and the first after everything else.
    """
    pieces: list[str] = []
    while text:
        size = next((size for size in range(3, len(text)) if text[:size] not in pieces), len(text))
        pieces.append(text[:size])
        text = text[size:]
    letters = [*"▁abcdefghijklmnopqrstuvwxyz", "<|turn|>"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    first = len(tokens)
    tokens += [piece.replace(" ", "▁") for piece in pieces]
    vocab = len(tokens)
    dim = -(-vocab // 32) * 32
    config = Config(
        dim=dim, layers=1, heads=1, kv_heads=1, head_dim=32, ffn_dim=32, vocab=vocab, context=context, tied=False
    )
    arrays = {name: np.zeros(shape, np.float32) for name, shape in config.shapes().items()}
    arrays |= {name: np.ones(array.shape, np.float32) for name, array in arrays.items() if array.ndim == 1}
    arrays["embedding"] = np.eye(vocab, dim, dtype=np.float32)
    follows = dict.fromkeys(range(vocab), first) | {token: token + 1 for token in range(first, vocab - 1)}
    follows[vocab - 1] = first if endless else 2
    for token, following in follows.items():
        arrays["output"][following, token] = 1.0
    metadata = {
        "general.name": path.stem,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(place) for place in range(vocab)],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * 27, 3, *[1] * len(pieces)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": template,
    }
    write_gguf(path, config_to_gguf(config) | metadata, named_tensors(config, arrays, "gguf"))
    return path


@pytest.fixture(scope="session")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a model that says a text."""
    folder = tmp_path_factory.mktemp("speakers")
    template = (
        "{{ bos_token }}{% for message in messages %}<|turn|>{{ message.role }}: {{ message.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}"
    )
    return lambda name, text, **more: write_speaker(folder / f"{name}.gguf", text, template, **more)


def say(page: Any, text: str) -> None:
    """Write a message, send it, and wait for the whole answer."""
    before = page.locator("article.assistant").count()
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    page.locator("article.assistant").nth(before).wait_for()
    settle(page)


def settle(page: Any) -> None:
    """Wait until nothing is being written."""
    page.locator("article.last.assistant:not(.writing)").wait_for()


def ready(page: Any) -> None:
    """Wait until the page has its conversations and its models, or asks for a key."""
    page.locator("#model:not([disabled]), #settings[open]").first.wait_for()


@pytest.fixture
def again() -> Callable[[Any], None]:
    """Loads the page anew."""

    def again(page: Any) -> None:
        page.wait_for_timeout(100)  # what is being saved has been
        page.reload()
        ready(page)

    return again


@pytest.fixture
def talk() -> Callable[[Any, str], None]:
    return say


@pytest.fixture
def rest() -> Callable[[Any], None]:
    return settle
