"""Stop strings across any cut of the text, and the pieces of an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.engine.generate import Engine
from llamero.engine.request import Request
from llamero.engine.sampling import Sampling
from llamero.engine.text import Piece, Stops, generate_text
from llamero.errors import SettingError

Make = Callable[..., Engine[Any, Any]]
Slowly = Callable[..., list[int]]


def slow_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """One character at a time: the first moment at which the text ends in a stop string."""
    for end in range(1, len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            longest = max(ended, key=len)
            return text[: end - len(longest)], longest
    return text, None


letters = st.text("abé🦙", max_size=14)


@given(letters, st.lists(st.text("abé🦙", min_size=1, max_size=4), max_size=3), st.data())
def test_stops_agree_with_their_twin_however_the_text_is_cut(text: str, stops: list[str], data: Any) -> None:
    found, given_out, rest = Stops(stops), "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        given_out += found.push(rest[:size])
        rest = rest[size:]
        seen = text[: len(text) - len(rest)]
        if found.found is None:
            held = seen[len(given_out) :]
            assert seen.startswith(given_out)
            # what is held may become a stop string, and nothing more than that is held
            assert not held or any(stop.startswith(held) for stop in stops)
            for size in range(len(held) + 1, len(seen) + 1):
                assert not any(stop.startswith(seen[-size:]) for stop in stops)
    given_out += found.flush()
    assert (given_out, found.found) == slow_stop(text, stops)


def test_nothing_is_held_without_need() -> None:
    stops = Stops(["</s>", "User:"])
    assert stops.push("Hello <") == "Hello "
    assert stops.push("3 U") == "<3 "
    assert stops.push("se this") == "Use this"
    assert stops.push(" User") == " "
    assert stops.push(": hm") == ""
    assert stops.found == "User:"
    assert stops.push("more") == stops.flush() == ""


@pytest.mark.parametrize("bad", [[""], ["a", ""], [3]])
def test_empty_stop_strings_are_refused(bad: list[Any]) -> None:
    with pytest.raises(SettingError, match="stop strings"):
        Stops(bad)


class Bytes:
    """A tiny decoder: token t is one byte of a text; characters come out whole."""

    def __init__(self, text: str) -> None:
        self.bytes = iter(text.encode())
        self.held = b""

    def push(self, _: int, /) -> str:
        self.held += bytes([next(self.bytes)])
        try:
            text, self.held = self.held.decode(), b""
        except UnicodeDecodeError:
            return ""
        return text

    def flush(self) -> str:
        return self.held.decode(errors="replace")


def pieces(engine: Engine[Any, Any], text: str, stops: list[str], count: int) -> tuple[list[Piece], Any, Stops]:
    run = engine.plan(Request(prompt=(1, 2, 3), sampling=Sampling(temperature=0), max_tokens=count))
    watch = Stops(stops)
    return list(generate_text(engine, run, Bytes(text), watch)), run, watch


def test_an_answer_ends_before_a_stop_string_made_of_many_tokens(make_engine: Make, slowly: Slowly) -> None:
    text = "the 🦙 said é🦙! and left"
    got, run, stops = pieces(make_engine(), text, ["é🦙!"], len(text.encode()))
    assert "".join(piece.text for piece in got) == "the 🦙 said "
    assert (run.finish_reason, stops.found) == (None, "é🦙!")
    until = len("the 🦙 said é🦙!".encode())
    assert [piece.choice.id for piece in got if piece.choice] == run.answer == slowly((1, 2, 3), until)


def test_half_a_stop_string_and_half_a_character_come_out_at_the_end(make_engine: Make) -> None:
    got, run, stops = pieces(make_engine(), "abc🦙", ["c🦙"], 5)
    assert "".join(piece.text for piece in got) == "abc\ufffd"
    assert (run.finish_reason, stops.found) == ("length", None)
    assert [piece.text for piece in got] == ["a", "b", "", "", "", "c\ufffd"]


def test_closing_the_text_closes_the_loop(make_engine: Make) -> None:
    engine = make_engine()
    run = engine.plan(Request(prompt=(1, 2, 3), max_tokens=50))
    stream = generate_text(engine, run, Bytes("a" * 50), Stops([]))
    next(stream)
    stream.close()
    assert engine.pool.working == []
    assert (engine.pool.cache.idle, engine.scheduler.busy) == (1, False)
