"""The page for everybody: by keyboard alone, with names for everything, on phones, in light and in dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Visit = Callable[..., Any]
Talk = Callable[[Any, str], None]
Rest = Callable[[Any], None]

HERE = Path(__file__).parent
NAMELESS = (HERE / "names.js").read_text().split("\n", 1)[1]
AXE = (HERE / "structure.js").read_text().split("\n", 1)[1]
CONTRAST = (HERE / "contrast.js").read_text().split("\n", 1)[1]
MARKDOWN = """\
# Title

Some `code`, a [link](https://example.org).

> quote

```python
def f(x): # why
    return 'a' + 1
```
"""


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"))


def test_everything_by_keyboard(visit: Visit, tales: str) -> None:
    page = visit(tales)
    assert focused(page) == "Message"
    page.keyboard.type("One line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("another line")
    page.keyboard.press("Enter")
    page.locator("article.last.assistant:not(.writing)").wait_for()
    assert page.locator("article.user .said").inner_text() == "One line\nanother line"
    assert focused(page) == "Message"
    page.keyboard.press("ArrowUp")
    assert focused(page) == "Edit your message"
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+ArrowDown")
    page.keyboard.press("Alt+ArrowUp")
    assert focused(page) == "You"
    page.keyboard.press("Alt+ArrowDown")
    assert focused(page) == "Llama"
    page.keyboard.press("Tab")
    assert focused(page) == "Copy"
    page.keyboard.press("Control+k")
    page.keyboard.type("Second chat")
    page.keyboard.press("Enter")
    page.locator("article.last.assistant:not(.writing)").wait_for()
    page.keyboard.press("Control+Shift+K")
    assert focused(page) == "Search conversations"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "Second chat"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("article.user .said").inner_text() == "One line\nanother line"
    page.keyboard.press("Control+b")
    page.locator("#search").wait_for(state="hidden")
    page.keyboard.press("Control+b")
    page.locator("#search").wait_for()


def test_the_order_of_focus(visit: Visit, talk: Talk, tales: str) -> None:
    page = visit(tales)
    talk(page, "Hello!")
    page.evaluate("document.activeElement.blur()")
    order = []
    for _ in range(16):
        page.keyboard.press("Tab")
        order.append(focused(page).strip())
    expected = ["Skip to the message box", "New chat", "Search conversations", "Hello!"]
    places = [next(place for place, name in enumerate(order) if name.startswith(each)) for each in expected]
    assert places == sorted(places)
    assert order.index("List of conversations") > places[-1]
    page.keyboard.press("Control+k")
    assert focused(page) == "Message"


def test_shortcuts_are_listed_and_dialogs_give_focus_back(visit: Visit, tales: str) -> None:
    page = visit(tales)
    page.keyboard.press("Control+/")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    text = dialog.inner_text()
    for words in ("New chat", "Stop the answer", "A new line", "Inspect the prompt", "Regenerate"):
        assert words in text
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert focused(page) == "Message"
    button = page.get_by_role("button", name="Settings")
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#settings").wait_for()
    page.keyboard.press("Escape")
    page.locator("#settings").wait_for(state="hidden")
    assert "Settings" in focused(page)


def test_screen_readers_are_told(visit: Visit, talk: Talk, tales: str, tale: str) -> None:
    page = visit(tales)
    live = page.locator("[aria-live=polite]")
    talk(page, "Hello!")
    page.locator("[aria-live=polite]", has_text=tale).wait_for()
    assert live.count() == 1
    assert page.locator("article.last").get_attribute("aria-busy") == "false"
    page.get_by_label("Search conversations").fill("hello")
    page.locator("[aria-live=polite]", has_text="1 conversation found").wait_for()


@pytest.fixture(scope="module")
def writers(serve: Callable[..., str], speaker: Callable[..., Any]) -> str:
    """The address of a server whose model writes some of everything."""
    return serve("-m", str(speaker("writer", MARKDOWN)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_structure_and_contrast(visit: Visit, talk: Talk, writers: str, scheme: str) -> None:
    page = visit(writers, color_scheme=scheme, reduced_motion="reduce")
    for step in ("start", "answer", "tokens", "settings", "inspector", "shortcuts"):
        if step == "answer":
            talk(page, "Hello!")
        if step == "tokens":
            page.locator("article.last").get_by_role("button", name="Token probabilities").click()
            page.locator("article.last .token").first.hover()
        if step == "settings":
            page.keyboard.press("Control+,")
        if step == "inspector":
            page.keyboard.press("Escape")
            page.keyboard.press("Control+i")
            page.locator("#inspector .prompt-token").first.wait_for()
        if step == "shortcuts":
            page.keyboard.press("Escape")
            page.keyboard.press("Control+/")
        page.wait_for_timeout(100)
        assert page.evaluate(NAMELESS) == [], step
        assert page.evaluate(AXE) == [], step
        assert page.evaluate(CONTRAST) == [], step


def ground(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_light_and_dark_follow_the_system_unless_chosen(visit: Visit, tales: str) -> None:
    page = visit(tales, color_scheme="light")
    light = ground(page)
    page.emulate_media(color_scheme="dark")
    dark = ground(page)
    assert light != dark
    page.keyboard.press("Control+,")
    page.get_by_role("radio", name="Light").check()
    assert ground(page) == light
    page.reload()
    assert ground(page) == light
    page.keyboard.press("Control+,")
    assert page.get_by_role("radio", name="Light").is_checked()
    page.get_by_role("radio", name="System").check()
    assert ground(page) == dark


def test_on_a_phone(visit: Visit, rest: Rest, writers: str) -> None:
    page = visit(writers, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(fits)
    assert not page.get_by_label("Search conversations").is_visible()
    box = page.get_by_label("Message", exact=True)
    box.tap()
    page.keyboard.type("one")
    page.keyboard.press("Enter")  # there is no Shift Enter on a phone: it sends by its button alone
    page.keyboard.type("two")
    assert box.input_value() == "one\ntwo"
    box.fill("")
    page.get_by_text("Tell me a story about a little dog.").tap()
    page.locator("article.last.assistant").wait_for()
    rest(page)
    assert page.evaluate(fits)
    page.get_by_role("button", name="List of conversations").tap()
    page.get_by_label("Search conversations").wait_for()
    assert "New chat" in focused(page)
    assert page.locator("#column").evaluate("element => element.inert")
    page.locator("#scrim").tap(position={"x": 350, "y": 300})
    page.locator("#search").wait_for(state="hidden")
    assert focused(page) == "List of conversations"
    page.locator("article.last").get_by_role("button", name="Token probabilities").tap()
    page.locator("article.last .token").nth(1).tap()
    assert page.evaluate("document.getElementById('popover').getBoundingClientRect().right <= window.innerWidth")
    page.locator("article.last").get_by_role("button", name="Inspect").tap()
    page.locator("#inspector .prompt-token").first.wait_for()
    assert page.evaluate("document.getElementById('inspector').scrollWidth <= window.innerWidth")
    page.locator("#inspector").get_by_role("button", name="Close").tap()
    small = page.evaluate(
        "[...document.querySelectorAll('#column button')].filter((each) => each.checkVisibility()).map((each) => "
        "[each.getBoundingClientRect(), each.ariaLabel]).filter(([box]) => box.width < 24 || box.height < 24)"
    )
    assert small == []


def test_a_picture_of_each(visit: Visit, talk: Talk, writers: str) -> None:
    """Screenshots can be taken at every size: nothing is empty, nothing overlaps the box that is written in."""
    for width, height in ((1440, 900), (820, 1100), (360, 640)):
        page = visit(writers, viewport={"width": width, "height": height})
        talk(page, "Hello!")
        box = page.locator(".composer-box").bounding_box()
        last = page.locator("article.last .figures").bounding_box()
        assert box["y"] + box["height"] <= height
        assert last["y"] + last["height"] <= box["y"]
        assert len(page.screenshot()) > 10_000
