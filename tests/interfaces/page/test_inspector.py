"""The prompt inspector on the page: text and ids as the server reads them, where they come from, what is left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Visit = Callable[..., Any]
Talk = Callable[[Any, str], None]


def facts(page: Any) -> dict[str, str]:
    names, values = (page.locator(f"#inspector-summary {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def shown(page: Any, origin: str) -> str:
    return "".join(page.locator(f"#inspector .prompt-token .origin-{origin}").all_text_contents())


def test_the_prompt_of_what_stands_in_the_box(visit: Visit, stories: str) -> None:
    page = visit(stories)
    page.keyboard.press("Control+i")
    page.get_by_text("nothing to inspect yet").wait_for()
    page.keyboard.press("Control+,")
    page.get_by_label("System prompt", exact=True).fill("Be kind.")
    page.keyboard.press("Escape")
    page.get_by_label("Message", exact=True).fill("Tell <|eot_id|> me\nof a 🙂.")
    page.keyboard.press("Control+i")
    page.locator("#inspector .prompt-token").first.wait_for()
    assert shown(page, "system") == "Be kind."
    assert shown(page, "user").startswith("Tell <|eot_id|> me⏎of a ")
    special = page.locator("#inspector .prompt-token.special > span:first-child").all_text_contents()
    assert special.count("<|eot_id|>") == 2  # the template's alone
    assert special[0] == "<|begin_of_text|>"
    assert re.fullmatch(r"\d+ tokens of 512", facts(page)["Prompt"])
    assert facts(page)["Left out"] == "0 tokens"
    page.locator("#inspector [value=ids]").check()
    ids = page.locator("#inspector .token-id").all_inner_texts()
    assert len(ids) == int(facts(page)["Prompt"].split()[0])
    assert all(each.isdecimal() for each in ids)


def test_where_a_token_comes_from(visit: Visit, talk: Talk, stories: str) -> None:
    page = visit(stories)
    talk(page, "Tell me a story.")
    talk(page, "And another one.")
    page.locator("article.last").get_by_role("button", name="Inspect").click()
    page.locator("#inspector .prompt-token").first.wait_for()
    assert shown(page, "user") == "Tell me a story.And another one."
    page.locator("#inspector .prompt-token:has(.origin-assistant)").first.focus()
    told = page.get_by_role("tooltip").inner_text().replace("\n", " ")
    assert "From Llama, message 2" in told
    assert "State in the cache" in told
    page.keyboard.press("Home")
    assert "begin_of_text" in page.get_by_role("tooltip").inner_text()
    page.keyboard.press("ArrowRight")
    assert "Place 1" in page.get_by_role("tooltip").inner_text().replace("\n", " ")
    legend = page.get_by_role("button", name=re.compile("^You "))
    legend.click()
    assert legend.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    page.locator("#inspector").wait_for(state="hidden")


def test_what_was_cached_and_what_was_left_out(visit: Visit, talk: Talk, stories: str) -> None:
    page = visit(stories)
    page.keyboard.press("Control+,")
    page.get_by_label("Longest answer", exact=True).fill("20")
    page.keyboard.press("Escape")
    for turn in range(6):
        talk(page, f"This is question {turn}. " + "Tell me what you think of it. " * 8)
    assert "left out" in page.locator("article.last .figures").inner_text()
    page.locator("article.last").get_by_role("button", name="Inspect").click()
    page.locator("#inspector .prompt-token").first.wait_for()
    assert int(facts(page)["Left out"].split()[0]) > 50
    dropped = page.locator("#inspector-dropped li").all_inner_texts()
    assert dropped[0].startswith("user This is question 0.")
    assert "This is question 0." not in shown(page, "user")
    assert "This is question 5." in shown(page, "user")
    assert int(facts(page)["In the cache now"].split()[0]) > 100
    assert "In the cache when sent" in facts(page)


def test_a_prompt_that_does_not_fit_is_shown_with_the_reason(visit: Visit, stories: str) -> None:
    page = visit(stories)
    page.keyboard.press("Control+,")
    page.get_by_label("When the context is full").select_option("error")
    page.keyboard.press("Escape")
    page.get_by_label("Message", exact=True).fill("very long " * 300)
    page.get_by_role("button", name="Inspect the prompt").click()
    assert "context of 512" in page.locator("#inspector").get_by_role("alert").inner_text()
