"""What a model says, and what a file of conversations holds, never runs and never loads anything.

Models here say, word for word, what an attacker would have them say. That no request left for another host and that
no rule of the Content-Security-Policy was even tried is checked after every test, in conftest.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

Visit = Callable[..., Any]
Talk = Callable[[Any, str], None]

HERE = Path(__file__).parent
ATTACKS = (HERE / "attacks.md").read_text()
LIVE = (HERE / "live.js").read_text().split("\n", 1)[1]


def check(page: Any) -> None:
    assert page.evaluate("window.pwned") is None
    assert page.evaluate(LIVE) == []


@pytest.fixture(scope="module")
def attackers(serve: Callable[..., str], speaker: Callable[..., Path]) -> str:
    return serve("-m", str(speaker("attacker", ATTACKS)))


def test_what_a_model_says(visit: Visit, talk: Talk, attackers: str) -> None:
    page = visit(attackers)
    talk(page, "<img src=x onerror='window.pwned=30'>")
    page.wait_for_timeout(300)
    check(page)
    answer = page.locator("article.last .markdown")
    assert "<script>window.pwned = 1</script>" in answer.inner_text()  # it is shown as what it is
    links = answer.locator("a").evaluate_all("all => all.map(each => [each.href, each.rel, each.target])")
    assert {href for href, _, _ in links} >= {"https://example.org/ok", "http://evil.test/b.png"}
    assert all("noopener" in rel and "noreferrer" in rel and target == "_blank" for _, rel, target in links)
    for article in page.locator("article").all():
        article.hover()
    page.locator("article.last").get_by_role("button", name="Token probabilities").click()
    page.locator("article.last .token").nth(2).hover()
    check(page)
    page.locator("article.last").get_by_role("button", name="Inspect").click()
    page.locator("#inspector .prompt-token").first.wait_for()
    check(page)
    page.keyboard.press("Escape")
    page.reload()
    page.locator("article.assistant").wait_for()
    check(page)


def test_while_it_is_being_written(visit: Visit, serve: Callable[..., str], speaker: Callable[..., Path]) -> None:
    page = visit(serve("-m", str(speaker("persistent", ATTACKS, endless=True, context=30_000)), "--context", "30000"))
    page.get_by_label("Message", exact=True).fill("Go on")
    page.keyboard.press("Enter")
    page.locator("article.writing .markdown").wait_for()
    for _ in range(5):
        check(page)
        page.wait_for_timeout(60)
    page.keyboard.press("Escape")
    page.locator("article.last.assistant:not(.writing)").wait_for()
    check(page)


def test_a_file_of_conversations(visit: Visit, talk: Talk, tales: str, tmp_path: Path) -> None:
    evil = "<img src=http://evil.test/z onerror=window.pwned=40><script>window.pwned=41</script>"
    message = {"id": evil, "parent": "", "role": "user", "content": ATTACKS}
    answer: dict[str, Any] = {"id": "2", "parent": evil, "role": "assistant", "content": ATTACKS, "finish": evil}
    answer |= {"model": evil, "error": evil, "figures": {"prompt": evil, evil: 1, "completion": 3, "rest": 1}}
    answer |= {"tokens": [[evil, -1, [[evil, -2]]]], "asked": {"model": evil, "system": evil, "settings": {evil: evil}}}
    conversation = {
        "id": evil,
        "title": evil,
        "named": True,
        "system": evil,
        "model": evil,
        "settings": {"stop": [evil]},
    }
    conversation |= {"messages": [message, answer], "chosen": {"__proto__": {"x": 1}}, "__proto__": {"pwned": 42}}
    path = tmp_path / "evil.json"
    path.write_text(
        json.dumps({"format": "llamero-conversations", "version": 1, "conversations": [conversation]}).replace(
            '"named"', '"__proto__": {"pwned": 43}, "named"'
        )
    )
    page = visit(tales)
    page.locator("#import-file").set_input_files(path)
    page.locator(".chat-open").click()
    page.locator("article.last").get_by_role("button", name="Token probabilities").click()
    page.locator("article.last .token").hover()
    check(page)
    assert page.locator(".chat-title").inner_text() == evil
    page.keyboard.press("Control+,")
    check(page)
    page.keyboard.press("Escape")
    talk(page, "Go on")
    check(page)
    assert page.evaluate("({}).pwned") is None


class Evil(BaseHTTPRequestHandler):
    """Another host; it notes who came."""

    def do_GET(self) -> None:
        self.server.visits.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def evil() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        server.visits = []  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_policy_would_stop_what_the_page_does_not_do(chromium: Any, tales: str, evil: Any) -> None:
    """A second wall, tried from inside: were the page to make a mistake, the browser refuses."""
    host = f"http://127.0.0.1:{evil.server_port}"
    context = chromium.new_context()
    context.add_init_script(
        "window.violations = [];"
        "document.addEventListener('securitypolicyviolation', (event) => violations.push(event.violatedDirective));"
    )
    page = context.new_page()
    page.goto(tales)
    page.locator("#model:not([disabled])").wait_for()
    for attempt in (
        "document.body.innerHTML = '<img src=x onerror=window.pwned=1>'",
        "document.body.insertAdjacentHTML('beforeend', '<b>x</b>')",
        "document.body.setAttribute('onclick', 'window.pwned=2'); document.body.click()",
        "setTimeout('window.pwned=3')",
        "Object.assign(document.body.appendChild(document.createElement('script')), {text: 'window.pwned=4'})",
        f"Object.assign(document.body.appendChild(document.createElement('script')), {{src: '{host}/x.js'}})",
        f"fetch('{host}/').catch(() => 0)",
        f"new Image().src = '{host}/x.png'",
        f"document.body.append(Object.assign(document.createElement('iframe'), {{src: '{host}/'}}))",
    ):
        page.evaluate(f"() => {{ try {{ {attempt} }} catch {{}} }}")
    page.wait_for_timeout(500)
    assert page.evaluate("window.pwned") is None
    assert len(page.evaluate("window.violations")) >= 7
    assert evil.visits == []
    context.close()
