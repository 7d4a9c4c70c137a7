"""Talking on the page: sending, streaming, stopping, editing, versions, branches, settings, models, probabilities."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Visit = Callable[..., Any]
Talk = Callable[[Any, str], None]
Rest = Callable[[Any], None]
Serve = Callable[..., str]


def answers(page: Any) -> list[str]:
    return [text.strip() for text in page.locator("article.assistant .message-body").all_inner_texts()]


def questions(page: Any) -> list[str]:
    return list(page.locator("article.user .said").all_inner_texts())


def sent_by(page: Any) -> list[dict[str, Any]]:
    """The bodies of chat requests from now on."""
    sent: list[dict[str, Any]] = []
    page.on("request", lambda each: each.url.endswith("/chat/completions") and sent.append(json.loads(each.post_data)))
    return sent


def press(page: Any, name: str, article: str = "article.last") -> None:
    page.locator(article).hover()
    page.locator(article).get_by_role("button", name=name).click()


def test_an_answer_with_its_figures(visit: Visit, talk: Talk, tales: str, tale: str) -> None:
    page = visit(tales)
    talk(page, "Hello!")
    assert questions(page) == ["Hello!"]
    assert answers(page) == [tale]
    figures = page.locator("article.assistant .figures").inner_text().replace("\n", " ")
    assert re.search(r"18 tokens\b.*tokens/s.*first after \d.*prompt \d+", figures)
    assert page.title() == "Hello! · llamero"
    talk(page, "And again?")
    assert "cached" in page.locator("article.last .figures").inner_text()


def test_an_answer_grows_and_can_be_stopped(
    visit: Visit, rest: Rest, serve: Serve, speaker: Callable[..., Path]
) -> None:
    model = speaker("endless", "over and over again we go, ", endless=True, context=100_000)
    page = visit(serve("-m", str(model), "--context", "100000"))
    for stop in (lambda: page.get_by_role("button", name="Stop").click(), lambda: page.keyboard.press("Escape")):
        page.get_by_label("Message", exact=True).fill("Go on for ever")
        page.keyboard.press("Enter")
        body = page.locator("article.last.writing .message-body")
        body.locator(".markdown").wait_for()
        sizes = []
        for _ in range(3):
            sizes.append(len(body.inner_text()))
            page.wait_for_timeout(400)
        assert sizes == sorted(set(sizes)), "it grows"
        stop()
        rest(page)
        assert "stopped" in page.locator("article.last .figures").inner_text()
        size = len(answers(page)[-1])
        page.wait_for_timeout(200)
        assert len(answers(page)[-1]) == size
        assert page.get_by_role("button", name="Send").count() == 1


def test_editing_a_message_makes_a_version(visit: Visit, talk: Talk, rest: Rest, tales: str, tale: str) -> None:
    page = visit(tales)
    talk(page, "First question")
    talk(page, "Second question")
    press(page, "Edit", "article.user >> nth=0")
    box = page.get_by_label("Edit your message")
    assert box.input_value() == "First question"
    box.fill("Another question")
    page.get_by_role("button", name="Send as a new version").click()
    page.locator("article.user", has_text="Another question").wait_for()
    rest(page)
    assert questions(page) == ["Another question"]
    assert answers(page) == [tale]
    switch = page.locator("article.user").get_by_role("group", name="Versions")
    assert "2/2" in switch.inner_text()
    switch.get_by_role("button", name="Previous version").click()
    assert questions(page) == ["First question", "Second question"]
    page.locator("article.user >> nth=0").get_by_role("button", name="Next version").click()
    assert questions(page) == ["Another question"]


def test_cancelling_an_edit_changes_nothing(visit: Visit, talk: Talk, tales: str) -> None:
    page = visit(tales)
    talk(page, "First question")
    press(page, "Edit", "article.user")
    page.get_by_label("Edit your message").fill("Never mind")
    page.keyboard.press("Escape")
    assert questions(page) == ["First question"]
    assert page.get_by_role("group", name="Versions").count() == 0


def test_regenerating_makes_a_version_of_the_answer(visit: Visit, talk: Talk, rest: Rest, tales: str) -> None:
    page = visit(tales)
    talk(page, "Hello!")
    press(page, "Regenerate")
    page.get_by_text("2/2").wait_for()
    rest(page)
    page.keyboard.press("Control+Shift+Enter")
    page.get_by_text("3/3").wait_for()
    assert questions(page) == ["Hello!"]
    page.locator("article.last").focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("2/3").wait_for()


def test_an_answer_can_be_edited(visit: Visit, talk: Talk, tales: str, tale: str) -> None:
    page = visit(tales)
    talk(page, "Hello!")
    press(page, "Edit")
    page.get_by_label("Edit this answer").fill("My **own** words")
    page.get_by_role("button", name="Save as a new version").click()
    page.locator("article.last strong", has_text="own").wait_for()
    sent = sent_by(page)
    talk(page, "Go on")
    assert [each["content"] for each in sent[0]["messages"]] == ["Hello!", "My **own** words", "Go on"]
    assert tale in answers(page)[-1]


def test_branching_into_a_new_chat(visit: Visit, talk: Talk, tales: str) -> None:
    page = visit(tales)
    talk(page, "One")
    talk(page, "Two")
    press(page, "Continue from here in a new chat", "article.assistant >> nth=0")
    page.locator(".chat").nth(1).wait_for()
    assert questions(page) == ["One"]
    talk(page, "Three")
    page.locator(".chat-open").nth(1).click()
    assert questions(page) == ["One", "Two"]


def test_deleting_a_message_and_undoing_it(visit: Visit, talk: Talk, tales: str) -> None:
    page = visit(tales)
    talk(page, "One")
    talk(page, "Two")
    press(page, "Delete this message", "article.user >> nth=1")
    assert questions(page) == ["One"]
    page.get_by_role("button", name="Undo").click()
    assert questions(page) == ["One", "Two"]


def test_settings_take_effect(visit: Visit, talk: Talk, tales: str, tale: str) -> None:
    page = visit(tales)
    sent = sent_by(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt", exact=True).fill("Be brief.")
    for label, value in {"Temperature": "0", "Top p": "0.5", "Longest answer": "4", "Seed": "7"}.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("Stop texts").fill("hums\nsoftly")
    page.get_by_label("Token alternatives").select_option("3")
    page.keyboard.press("Escape")
    talk(page, "Hello!")
    assert answers(page) == ["Here is a tiny"]
    assert "cut: no room left" in page.locator("article.last .figures").inner_text()
    expected = {"temperature": 0, "top_p": 0.5, "max_tokens": 4, "seed": 7, "stop": ["hums", "softly"]}
    assert {name: sent[0][name] for name in expected} == expected
    assert (sent[0]["logprobs"], sent[0]["top_logprobs"]) == (True, 3)
    assert sent[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert page.locator("#system-note").is_visible()
    page.keyboard.press("Control+,")
    page.get_by_label("Longest answer", exact=True).fill("")
    page.get_by_role("button", name="Use for new chats").click()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    talk(page, "Hello again!")
    assert "max_tokens" not in sent[1]
    assert sent[1]["seed"] == 7
    assert answers(page) == [tale.split(" hums")[0]]


def test_a_setting_out_of_range_is_not_sent(visit: Visit, talk: Talk, tales: str) -> None:
    page = visit(tales)
    sent = sent_by(page)
    page.keyboard.press("Control+,")
    box = page.get_by_label("Temperature", exact=True)
    box.fill("9")
    box.blur()
    assert box.get_attribute("aria-invalid") == "true"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    talk(page, "Hello!")
    assert "temperature" not in sent[0]


def test_the_model_is_chosen(
    visit: Visit, talk: Talk, serve: Serve, models: Path, speaker: Callable[..., Path]
) -> None:
    page = visit(serve("-m", f"one={models / 'chatty.gguf'}", "-m", f"two={speaker('two', 'I am the second one.')}"))
    sent = sent_by(page)
    box = page.get_by_label("Model", exact=True)
    page.locator("#model:not([disabled])").wait_for()
    assert box.locator("option").all_inner_texts() == ["one", "two"]
    talk(page, "Hello!")
    box.select_option("two")
    talk(page, "Who are you?")
    assert [each["model"] for each in sent] == ["one", "two"]
    assert answers(page)[1] == "I am the second one."
    assert "two" in page.locator("article.last .figures").inner_text()


def test_a_model_that_is_gone(
    visit: Visit, talk: Talk, rest: Rest, serve: Serve, tmp_path: Path, speaker: Callable[..., Path]
) -> None:
    for name in ("first", "second"):
        shutil.copy(speaker(name, f"I am the {name} one."), tmp_path)
    page = visit(serve("--models", str(tmp_path)))
    box = page.get_by_label("Model", exact=True)
    box.select_option("second")
    (tmp_path / "second.gguf").unlink()
    talk(page, "Who are you?")
    assert "second" in page.locator("article.last").get_by_role("alert").inner_text()
    box.locator("option", has_text="second").wait_for(state="detached")
    assert box.input_value() == "first"
    press(page, "Regenerate")
    page.locator("article.last", has_text="I am the first one.").wait_for()
    rest(page)


def test_from_another_machine_without_https(
    visit: Visit, talk: Talk, serve: Serve, models: Path, tale: str, elsewhere: str
) -> None:
    """Browsers withhold some of their interfaces there."""
    address = serve("-m", f"chain={models / 'chatty.gguf'}", "--allow-host", elsewhere)
    page = visit(address.replace("127.0.0.1", elsewhere))
    assert not page.evaluate("isSecureContext")
    talk(page, "Hello!")
    assert answers(page) == [tale]
    press(page, "Copy")
    page.get_by_text("Copied.").wait_for()


def test_an_empty_message_is_not_sent(visit: Visit, talk: Talk, tales: str) -> None:
    page = visit(tales)
    talk(page, "Hello!")
    sent = sent_by(page)
    page.get_by_label("Message", exact=True).fill("  \n ")
    page.keyboard.press("Enter")
    press(page, "Edit", "article.user")
    page.get_by_label("Edit your message").fill(" ")
    page.keyboard.press("Enter")
    page.locator("article.user .said", has_text="Hello!").wait_for()
    assert sent == []


def test_what_the_server_refuses_is_shown(visit: Visit, talk: Talk, tales: str) -> None:
    page = visit(tales)
    page.keyboard.press("Control+,")
    page.get_by_label("When the context is full").select_option("error")
    page.keyboard.press("Escape")
    talk(page, "too long " * 100)
    assert "context of 256" in page.locator("article.last").get_by_role("alert").inner_text()


def test_probabilities_of_tokens(visit: Visit, talk: Talk, stories: str) -> None:
    page = visit(stories)
    talk(page, "Tell me a story about a little dog.")
    answer = page.locator("article.last .message-body").inner_text()
    press(page, "Token probabilities")
    tokens = page.locator("article.last .token")
    assert "".join(tokens.all_text_contents()).replace("⏎", "\n").split() == answer.split()
    tokens.nth(3).hover()
    popover = page.get_by_role("tooltip")
    chances = popover.locator(".chance:not(.rest)")
    assert chances.count() >= 5
    shares = [float(text.rstrip(" %").lstrip("<> ")) for text in chances.locator("span:last-child").all_inner_texts()]
    assert all(0 <= share <= 100 for share in shares)
    assert sum(shares) <= 101
    chosen = popover.locator(".chosen code").inner_text()
    assert chosen.replace("␣", " ") == tokens.nth(3).text_content()
    tokens.nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert "instead:" in tokens.nth(1).get_attribute("aria-label")
    assert tokens.nth(1).evaluate("element => element === document.activeElement")
    press(page, "Token probabilities")
    assert page.locator("article.last .message-body").inner_text() == answer


@pytest.fixture(scope="module")
def locked(serve: Serve, models: Path) -> str:
    """The address of a server that asks for a key."""
    return serve("-m", f"chain={models / 'chatty.gguf'}", "--api-key", "correct-horse-battery")


def test_the_page_asks_for_a_key(visit: Visit, talk: Talk, locked: str, tale: str) -> None:
    page = visit(locked)
    key = page.get_by_label("Key", exact=True)
    key.wait_for()
    assert page.get_by_text("This server asks for a key.").is_visible()
    with page.expect_response(lambda each: each.status == 401):
        key.fill("wrong")
        page.keyboard.press("Enter")
    key.fill("correct-horse-battery")
    page.keyboard.press("Enter")
    page.locator("#model:not([disabled])").wait_for()
    assert page.locator("#key-note").is_hidden()
    talk(page, "Hello!")
    assert answers(page) == [tale]
    kept = page.evaluate("[JSON.stringify(localStorage), JSON.stringify(sessionStorage)]")
    assert "correct-horse" not in kept[0]
    assert "correct-horse" in kept[1]
    page.reload()
    page.locator("#model:not([disabled])").wait_for()


def test_a_late_answer_to_an_older_key_disturbs_nobody(visit: Visit, talk: Talk, locked: str, tale: str) -> None:
    page = visit(locked)
    key = page.get_by_label("Key", exact=True)
    key.wait_for()
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route) if "wrong" in route.request.headers["authorization"] else route.continue_()

    page.route("**/v1/models", hold)
    key.fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Settings").first.click()
    key.fill("correct-horse-battery")
    page.keyboard.press("Enter")
    page.locator("#model:not([disabled])").wait_for()
    assert len(held) == 1  # Enter, and the change of the field, ask once
    with page.expect_response(lambda each: each.status == 401):
        held[0].continue_()
    talk(page, "Hello!")
    assert answers(page) == [tale]
    assert page.locator("#settings").is_hidden()


def test_a_key_is_remembered_where_that_is_wished(visit: Visit, locked: str) -> None:
    page = visit(locked)
    page.get_by_label("Key", exact=True).fill("correct-horse-battery")
    page.get_by_label("Remember it").check()
    page.locator("#model:not([disabled])").wait_for()
    another = page.context.new_page()
    another.goto(locked)
    another.locator("#model:not([disabled])").wait_for()
