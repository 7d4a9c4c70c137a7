"""Answers as they come: in any pieces, at length, cut off, and while other things happen to their conversation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Visit = Callable[..., Any]
Rest = Callable[[Any], None]
Serve = Callable[..., str]

HERE = Path(__file__).parent
TEXTS = {
    "attacks": (HERE / "attacks.md").read_text(),
    "blocks": (
        "para\n| a | b |\n|---|:-:|\n| 1 | 2 |\n\n1. x\n\n   y\n   - deep\n\n\n2. z\n\n    code\n\n```python\n"
        "def f():\n    return 1\n```\nheading\n===\nlast\n---\n\n> quote\nlazy\n\n\tindented\n\n"
        "~~~js\nlet neverClosed = 1; // why"
    ),
    "lines": "a\r\n\r\n- x\r\n- y\r\n\r\n\ttabbed\r\n\r\npara\r\n===\r\n\0\u2028 [q]\n\n[q]: http://x.org\n\n[q]",
}
COMPARE = """
async ([text, step]) => {
    const { Markdown } = await import("/markdown.js");
    const grown = new Markdown();
    for (let end = step; end < text.length; end += step) grown.update(text.slice(0, end));
    grown.settle(text);
    const whole = new Markdown();
    whole.settle(text);
    return [grown.element.innerHTML, whole.element.innerHTML];
}
"""
COUNT = """
async ([line, lines]) => {
    const { Markdown } = await import("/markdown.js");
    const own = document.createElement;
    let made = 0;
    document.createElement = (...words) => (made++, own.apply(document, words));
    const text = line.repeat(lines);
    const grown = new Markdown();
    for (let end = 1; end < text.length; end += 3) grown.update(text.slice(0, end));
    document.createElement = own;
    return made;
}
"""


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("step", [1, 2, 7])
def test_in_any_pieces_an_answer_looks_the_same(visit: Visit, tales: str, name: str, step: int) -> None:
    grown, whole = visit(tales).evaluate(COMPARE, [TEXTS[name], step])
    assert grown == whole


def test_the_work_of_a_long_answer_grows_with_its_length(visit: Visit, tales: str) -> None:
    page = visit(tales)
    line = "Some *words* in a paragraph, and `code`.\n\n```python\nx = 1\n```\n\n"
    short, long = (page.evaluate(COUNT, [line, lines]) for lines in (20, 80))
    assert long < 4.5 * short


GROW = """
async ([start, more]) => {
    const { Markdown } = await import("/markdown.js");
    const grown = new Markdown();
    document.getElementById("transcript").replaceChildren(grown.element);
    grown.update(start);
    const code = grown.element.querySelector("pre");
    code.scrollLeft = 50;
    grown.update(start + more);
    return [code.isConnected, code.scrollLeft, code.textContent, grown.element.querySelectorAll("pre").length];
}
"""


def test_code_that_grows_stays_where_one_scrolled_it(visit: Visit, tales: str) -> None:
    page = visit(tales)
    line = "x = " + "1 + " * 100 + "1"
    assert page.evaluate(GROW, [f"Look:\n\n```python\n{line}\ny", " = 2\n"]) == [True, 50, f"{line}\ny = 2", 1]
    assert page.evaluate(GROW, [f"Look:\n\n```python\n{line}\n", "```\n\n```js\nz"]) == [True, 50, line, 2]


@pytest.fixture(scope="module")
def endless(serve: Serve, speaker: Callable[..., Path]) -> str:
    """The address of a server whose model never ends."""
    model = speaker("endless", "over and over again we go, ", endless=True, context=100_000)
    return serve("-m", str(model), "--context", "100000")


def begin(page: Any) -> None:
    """Ask something, and wait until the answer is being written."""
    page.get_by_label("Message", exact=True).fill("Go on for ever")
    page.keyboard.press("Enter")
    page.locator("article.last.writing .markdown").wait_for()


def kept(page: Any) -> int:
    """How many conversations the browser keeps."""
    return int(
        page.evaluate(
            "new Promise((give) => indexedDB.open('llamero').onsuccess = ({ target: { result } }) => result.transaction"
            "('conversations').objectStore('conversations').count().onsuccess = (event) => give(event.target.result))"
        )
    )


def test_what_was_said_before_is_not_touched(visit: Visit, rest: Rest, endless: str) -> None:
    page = visit(endless)
    begin(page)
    page.keyboard.press("Escape")
    rest(page)
    before = page.locator("article .message-body > *").element_handles()
    begin(page)
    page.wait_for_timeout(300)
    assert all(handle.evaluate("element => element.isConnected") for handle in before)
    page.keyboard.press("Escape")
    rest(page)


def test_a_conversation_deleted_while_an_answer_is_written_stays_deleted(visit: Visit, endless: str) -> None:
    page = visit(endless)
    begin(page)
    page.wait_for_timeout(1200)
    page.locator(".chat").hover()
    page.get_by_role("button", name="Delete “").click()
    page.get_by_text("Conversations will be listed here.").wait_for()
    page.wait_for_timeout(1200)
    assert kept(page) == 0
    assert page.get_by_role("button", name="Send").count() == 1


def test_deleting_the_question_stops_its_answer_and_undoing_loses_nothing(
    visit: Visit, rest: Rest, endless: str
) -> None:
    page = visit(endless)
    begin(page)
    page.locator("article.user").hover()
    page.locator("article.user").get_by_role("button", name="Delete this message").click()
    page.get_by_role("button", name="Send").wait_for()
    page.get_by_label("Message", exact=True).fill("Another question")
    page.keyboard.press("Enter")
    page.locator("article.last.writing .markdown").wait_for()
    page.keyboard.press("Escape")
    rest(page)
    page.get_by_role("button", name="Undo").click()
    assert page.locator("article.user .said").all_inner_texts() == ["Go on for ever"]
    page.locator("article.user").get_by_role("button", name="Next version").click()
    assert page.locator("article.user .said").all_inner_texts() == ["Another question"]


def test_another_tab_follows_and_may_delete(visit: Visit, endless: str) -> None:
    page = visit(endless)
    another = page.context.new_page()
    another.goto(endless)
    another.locator("#model:not([disabled])").wait_for()
    begin(page)
    another.locator(".chat-open").click()
    another.locator("article.assistant .markdown").wait_for()
    text = another.locator("article.assistant .markdown")
    size, handle = len(text.inner_text()), text.element_handle()
    another.locator("article.user").hover()
    another.locator("article.user").get_by_role("button", name="Edit").click()
    another.get_by_label("Edit your message").fill("half written")
    another.wait_for_timeout(2500)  # it is told every second
    assert len(text.inner_text()) > size
    assert handle.evaluate("element => element.isConnected")
    assert another.get_by_label("Edit your message").input_value() == "half written"
    another.get_by_role("button", name="Send as a new version").click()
    another.locator("article.last.writing .markdown").wait_for()
    another.keyboard.press("Escape")
    another.locator("article.last.assistant:not(.writing)").wait_for()
    page.locator("article.user .version-count", has_text="/2").wait_for()  # theirs is here, ours is written on
    assert page.locator("article.writing, article.user").count() >= 1
    another.locator(".chat").hover()
    another.get_by_role("button", name="Delete “").click()
    page.get_by_role("heading", name="What shall we talk about?").wait_for()
    page.wait_for_timeout(1200)
    assert kept(page) == 0


def test_an_answer_that_the_server_cuts_off_says_so(
    visit: Visit, rest: Rest, mortal: Callable[..., Any], speaker: Callable[..., Path]
) -> None:
    model = speaker("endless", "over and over again we go, ", endless=True, context=100_000)
    address, kill = mortal("-m", str(model), "--context", "100000")
    page = visit(address)
    begin(page)
    kill()
    rest(page)
    assert "broke off before the answer ended" in page.locator("article.last").get_by_role("alert").inner_text()
    assert "over and over" in page.locator("article.last .markdown").inner_text()
    page.get_by_label("Message", exact=True).fill("Are you there?")
    page.keyboard.press("Enter")
    page.locator("article.last [role=alert]", has_text="The server does not answer.").wait_for()
