"""Conversations are kept in the browser: over reloads and between tabs, found, renamed, deleted, exported, imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Visit = Callable[..., Any]
Talk = Callable[[Any, str], None]
Again = Callable[[Any], None]


def titles(page: Any) -> list[str]:
    return list(page.locator(".chat-title").all_inner_texts())


def said(page: Any) -> list[str]:
    return list(page.locator("article.user .said").all_inner_texts())


def toast(page: Any) -> str:
    return str(page.get_by_role("status").inner_text())


def test_a_reload_loses_nothing(visit: Visit, talk: Talk, again: Again, tales: str, tale: str) -> None:
    page = visit(tales)
    talk(page, "The first chat")
    talk(page, "goes on")
    figures = page.locator("article.last .figures").inner_text()
    page.keyboard.press("Control+k")
    talk(page, "The second chat")
    again(page)
    assert said(page) == ["The second chat"]  # the one that was open
    assert titles(page) == ["The second chat", "The first chat"]
    page.get_by_role("button", name="The first chat", exact=True).click()
    assert said(page) == ["The first chat", "goes on"]
    assert page.locator("article.last .message-body").inner_text().strip() == tale
    assert page.locator("article.last .figures").inner_text() == figures
    page.locator("article.last").get_by_role("button", name="Token probabilities").click()
    assert page.locator("article.last .token").count() > 5


def test_an_answer_that_a_reload_cut_is_kept(
    visit: Visit, again: Again, serve: Callable[..., str], speaker: Callable[..., Path]
) -> None:
    model = speaker("endless", "on and on, ", endless=True, context=100_000)
    page = visit(serve("-m", str(model), "--context", "100000"))
    page.get_by_label("Message", exact=True).fill("Go")
    page.keyboard.press("Enter")
    page.locator("article.writing .markdown").wait_for()
    page.wait_for_timeout(1500)  # it is saved every second
    again(page)
    page.locator("article.assistant .markdown").wait_for()
    assert "stopped" in page.locator("article.last").inner_text()


def test_two_tabs_show_the_same(visit: Visit, talk: Talk, tales: str) -> None:
    page = visit(tales)
    another = page.context.new_page()
    another.goto(tales)
    talk(page, "Said in one tab")
    another.get_by_role("button", name="Said in one tab", exact=True).click()
    assert said(another) == ["Said in one tab"]
    another.locator(".chat").get_by_role("button", name="Delete").click()
    page.get_by_text("Conversations will be listed here.").wait_for()


FORBIDDEN = """
for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
    Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
}
"""


def test_where_the_browser_keeps_nothing(visit: Visit, talk: Talk, tales: str, tale: str) -> None:
    page = visit(tales, FORBIDDEN)
    page.get_by_text("This browser keeps nothing here").wait_for()
    talk(page, "Hello!")
    assert page.locator("article.last .message-body").inner_text().strip() == tale
    page.keyboard.press("Control+,")
    page.get_by_role("radio", name="Dark").check()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+,")
    assert page.get_by_role("radio", name="Dark").is_checked()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert titles(page) == ["Hello!"]


def test_a_full_storage_is_told_once(visit: Visit, talk: Talk, again: Again, tales: str) -> None:
    page = visit(tales)
    devtools, origin = page.context.new_cdp_session(page), tales.rstrip("/")
    devtools.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 1000})
    talk(page, "Too long to be kept " + "x" * 20_000)
    page.get_by_text("This browser has no room for more").wait_for()
    page.get_by_text("This browser has no room for more").wait_for(state="hidden")
    talk(page, "Go on")
    assert page.get_by_role("status").is_hidden()
    devtools.send("Storage.overrideQuotaForOrigin", {"origin": origin})
    talk(page, "There is room again")
    again(page)
    assert len(said(page)) == 3


def test_search_goes_through_titles_and_texts(visit: Visit, talk: Talk, tales: str) -> None:
    page = visit(tales)
    talk(page, "About apples")
    talk(page, "and hidden treasure")
    page.keyboard.press("Control+k")
    talk(page, "About pears")
    page.keyboard.press("Control+Shift+K")
    page.keyboard.type("treasure apples")
    page.locator(".chat").nth(1).wait_for(state="detached")
    assert titles(page) == ["About apples"]
    page.get_by_label("Search conversations").fill("nothing like it")
    page.get_by_text("Nothing found.").wait_for()
    page.keyboard.press("Escape")
    assert len(titles(page)) == 2


def test_renaming(visit: Visit, talk: Talk, again: Again, tales: str) -> None:
    page = visit(tales)
    talk(page, "A question")
    page.locator(".chat-open").focus()
    page.keyboard.press("F2")
    page.keyboard.type("My own <b>name</b>")
    page.keyboard.press("Enter")
    assert titles(page) == ["My own <b>name</b>"]
    talk(page, "Another question")  # a name of one's own stays
    again(page)
    assert titles(page) == ["My own <b>name</b>"]
    page.locator(".chat-open").focus()
    page.keyboard.press("F2")
    page.keyboard.type("not this")
    page.keyboard.press("Escape")
    assert titles(page) == ["My own <b>name</b>"]


def test_deleting_and_undoing(visit: Visit, talk: Talk, again: Again, tales: str) -> None:
    page = visit(tales)
    talk(page, "To be deleted")
    page.locator(".chat-open").focus()
    page.keyboard.press("Delete")
    assert titles(page) == []
    page.get_by_role("button", name="Undo").click()
    assert said(page) == ["To be deleted"]
    page.locator(".chat").hover()
    page.get_by_role("button", name="Delete “To be deleted”").click()
    again(page)
    assert titles(page) == []


def exported(page: Any, tmp_path: Path) -> Path:
    page.keyboard.press("Control+,")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export all").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    page.keyboard.press("Escape")
    return path


def test_what_is_exported_can_be_imported(visit: Visit, talk: Talk, tales: str, tmp_path: Path) -> None:
    page = visit(tales)
    page.keyboard.press("Control+,")
    page.get_by_label("System prompt", exact=True).fill("Be kind.")
    page.get_by_label("Temperature", exact=True).fill("0.25")
    page.keyboard.press("Escape")
    talk(page, "One")
    talk(page, "Two")
    page.locator("article.user >> nth=1").hover()
    page.locator("article.user >> nth=1").get_by_role("button", name="Edit").click()
    page.keyboard.type(" changed")
    page.keyboard.press("Enter")
    page.locator("article.user", has_text="Two changed").wait_for()
    page.locator("article.last.assistant:not(.writing)").wait_for()
    first = exported(page, tmp_path)
    elsewhere = visit(tales)
    elsewhere.locator("#import-file").set_input_files(first)
    elsewhere.get_by_text("Imported 1 conversation.").wait_for()
    elsewhere.locator(".chat-open").click()
    assert said(elsewhere) == ["One", "Two changed"]
    assert "2/2" in elsewhere.locator("article.user >> nth=1").inner_text()
    assert elsewhere.locator("#system-text").text_content() == "Be kind."
    (tmp_path / "again").mkdir()
    second = exported(elsewhere, tmp_path / "again")
    assert without_ids(second) == without_ids(first)


def without_ids(path: Path) -> list[Any]:
    """The conversations of a file, with places instead of ids."""
    conversations = json.loads(path.read_text())["conversations"]
    for conversation in conversations:
        names = {"": ""} | {message["id"]: str(place) for place, message in enumerate(conversation["messages"])}
        del conversation["id"]
        conversation["chosen"] = {names[a]: names[b] for a, b in conversation["chosen"].items()}
        for message in conversation["messages"]:
            message["id"], message["parent"] = names[message["id"]], names[message["parent"]]
    return list(conversations)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no json", "not JSON"),
        ("{}", "holds no conversations"),
        ('{"format": "llamero-conversations", "version": 9, "conversations": []}', "version is 9"),
        (
            '{"format": "llamero-conversations", "version": 1, "conversations": [{"messages": [{"role": "root"}]}]}',
            "role",
        ),
        (
            '{"format": "llamero-conversations", "version": 1, "conversations": '
            '[{"messages": [{"role": "user", "id": "1", "parent": "2", "content": ""}]}]}',
            "follows a message that is not before it",
        ),
        (
            '{"format": "llamero-conversations", "version": 1, "conversations": '
            '[{"messages": [{"role": "user", "id": "1", "parent": "", "content": {"a": 1}}]}]}',
            "content is not text",
        ),
    ],
)
def test_a_file_that_is_not_one_of_ours(visit: Visit, tales: str, tmp_path: Path, text: str, words: str) -> None:
    page = visit(tales)
    path = tmp_path / "file.json"
    path.write_text(text)
    page.locator("#import-file").set_input_files(path)
    page.get_by_text("Not imported.").wait_for()
    assert words in toast(page)
    assert titles(page) == []


def test_deleting_everything(visit: Visit, talk: Talk, again: Again, tales: str) -> None:
    page = visit(tales)
    for text in ("One", "Two"):
        page.keyboard.press("Control+k")
        talk(page, text)
    page.keyboard.press("Control+,")
    page.get_by_role("button", name="Delete all").click()
    assert titles(page) == []
    page.get_by_role("button", name="Undo").click()
    assert sorted(titles(page)) == ["One", "Two"]
    page.keyboard.press("Control+,")
    page.get_by_role("button", name="Delete all").click()
    again(page)
    assert titles(page) == []
