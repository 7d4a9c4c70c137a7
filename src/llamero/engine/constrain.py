"""Grammars over a vocabulary: forms become constraints, through llguidance (Guidance AI, MIT). It knows tokens' bytes.

Closed when in doubt: a form that is broken, or asks for what cannot be enforced, is refused when the constraint is
made; a matcher that cannot go on raises.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llamero.engine.closing import Closing, Room
from llamero.engine.deep import run_deep
from llamero.engine.form import Form, Schema
from llamero.engine.sampling import Logits
from llamero.engine.schema import enforceable, inner
from llamero.errors import ConstraintError, SettingError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

_WORDY = 300  # characters of another's message that are passed on
_LONGEST = 128 * 1024  # characters of an expression or a grammar
_JSON: JsonCompileOptions = {
    # At most a line break and an indentation, or a space, wherever JSON may have white space: answers must end.
    "whitespace_pattern": r"[ ]?|\n[ ]{0,40}|\n\t{0,10}",
    # One way to spell each character: otherwise "\u0061" would be a second, unchecked, property "a".
    "json_allowed_escapes": '"\\bfnrt',
    "lenient": False,
    "coerce_one_of": False,
}
_LIMITS: dict[str, Any] = {
    "max_items_in_row": 10_000,
    "max_lexer_states": 50_000,  # of 1 to 2 kB each
    "max_grammar_size": 100_000,
    "verbose_errors": False,
}
_PLACES = 500  # schemas within a schema that are tried alone to find the broken one


class Vocabulary(Protocol):
    """What a grammar must know of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def stop_ids(self) -> frozenset[int]: ...
    @property
    def control_ids(self) -> frozenset[int]: ...
    def piece(self, token: int, /) -> bytes: ...
    def encode(self, text: str, *, bos: bool, special: bool, start: bool) -> list[int]: ...


class Constraints:
    """Makes the constraints of one vocabulary. The first one prepares it: 0.1 to 1 s for 32 to 200 thousand tokens."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._prepared: tuple[LLTokenizer, Closing] | None = None
        self._lock = threading.Lock()

    def of(self, form: Form) -> Grammar:
        """The constraint that makes answers have this form.

        Raises SettingError for a form that is broken, cannot be enforced, or is too large; it names the place.
        """
        if not self._vocabulary.stop_ids:
            raise SettingError(f"{form.kind}: this vocabulary has no token that ends an answer, so none could be whole")
        tokenizer, closing = self._prepare()
        return run_deep(lambda: Grammar(tokenizer, closing, form, self._vocabulary.stop_ids))

    def _prepare(self) -> tuple[LLTokenizer, Closing]:
        from llguidance import LLTokenizer

        with self._lock:
            if self._prepared is None:
                words: Any = _Words(self._vocabulary)
                tokenizer = LLTokenizer(words, eos_token=sorted(self._vocabulary.stop_ids))
                self._prepared = tokenizer, Closing(words.bytes())
            return self._prepared


class Grammar:
    """A constraint: what may be written, ready to be followed by any number of answers at once."""

    def __init__(self, tokenizer: LLTokenizer, closing: Closing, form: Form, stop_ids: frozenset[int]) -> None:
        """Raises SettingError for a form that is broken, too large, or that nothing can match."""
        from llguidance import LLMatcher, LLParserLimits

        self.form = form
        self._closing = closing
        self._ends = np.array(sorted(stop_ids), np.intp)
        self._start = LLMatcher(tokenizer, _grammar(form), log_level=0, limits=LLParserLimits(**_LIMITS))
        if self._start.is_error():
            raise SettingError(explained(form, self._start.get_error()))
        try:
            self.begin().mask(np.zeros(tokenizer.vocab_size, np.float32))
        except ConstraintError:
            raise SettingError(f"{form.kind}: no answer can match it") from None

    def begin(self, room: int | None = None) -> GrammarMatcher:
        """A matcher at the start of an answer. room: tokens that it may have at most, its end not counted.

        With room, an answer that can be whole within it becomes so; without, it takes as long as it takes.
        """
        limit = None if room is None else Room(self._closing, room)
        return GrammarMatcher(self._start.deep_copy(), self._ends, self.form.kind, limit)


class GrammarMatcher:
    """One answer's place in a grammar."""

    def __init__(self, matcher: LLMatcher, ends: NDArray[np.intp], kind: str, room: Room | None) -> None:
        self._matcher, self._ends, self._kind, self._room = matcher, ends, kind, room

    @property
    def hurried(self) -> bool:
        """Whether the answer's room, not the model, decided some of its tokens."""
        return self._room is not None and self._room.hurried

    def mask(self, logits: Logits) -> None:
        """Set the logits (vocab,) of all that may not come next to minus infinity, in place.

        Raises ConstraintError where nothing may, or where finding out takes more work than is allowed.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        forbidden = np.unpackbits(~bits, count=len(logits), bitorder="little").view(np.bool_)
        ends = self._ends[self._ends < len(logits)]
        if not self._matcher.is_accepting():
            forbidden[ends] = True
        if self._matcher.is_error() or forbidden.all():
            raise self._lost()
        np.copyto(logits, -np.inf, where=forbidden)
        if self._room is not None:
            self._room.narrow(self._matcher, logits, ends)

    def accept(self, token: int) -> None:
        """Go on past a token that was chosen. Raises ConstraintError for one that may not come here."""
        if not self._matcher.consume_token(token):
            raise self._lost()
        if self._room is not None:
            self._room.accept(token)

    def copy(self) -> GrammarMatcher:
        """The same place, to look ahead from."""
        room = self._room.copy() if self._room else None
        return GrammarMatcher(self._matcher.deep_copy(), self._ends, self._kind, room)

    def _lost(self) -> ConstraintError:
        why = _first_words(self._matcher.get_error()) or "no token may come next"
        return ConstraintError(f"the answer cannot go on in its form ({self._kind}): {why}")


def enforced(schema: Schema) -> dict[str, Any]:
    """The schema in words that are all enforced. Raises SettingError naming the place of what cannot be."""
    from llguidance import LLMatcher, LLParserLimits

    def read() -> dict[str, Any]:
        words = enforceable(schema)
        if error := LLMatcher.validate_grammar(_json_grammar(words), limits=LLParserLimits(**_LIMITS)):
            raise SettingError(explained(Form(kind="json_schema", source=schema), error))
        return words

    return run_deep(read)


def json_within(schema: Schema) -> str:
    """An enforced schema as it stands after %json in a Lark grammar, kept to as strictly as a form of its own."""
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    return json.dumps({**schema, "x-guidance": _JSON})


def explained(form: Form, error: str) -> str:
    """What llguidance says of a broken form, with the place first."""
    if form.kind == "json_schema":
        why = _plainly(error)
        return f"json_schema{_place(form, why)}: {why}"
    caret = re.search(r"\n {4}( *)\^.*\nerror: (.*)", error)
    if form.kind == "regex" and caret:
        return f"regex, at character {len(caret[1])}: {caret[2]}"
    place = re.match(r"(?:at )?(\d+)\((\d+)\): (.*)", error)
    if form.kind == "grammar" and place:
        return f"grammar, line {place[1]}, column {place[2]}: {place[3][:_WORDY]}"
    return f"{form.kind}: {_first_words(error)}"


def _place(form: Form, why: str) -> str:
    """Where in a schema that is refused: the deepest schema that is refused by itself, for the same."""
    from llguidance import LLMatcher

    for where, schema in islice(inner(form.source), _PLACES):
        if _plainly(LLMatcher.validate_grammar(_json_grammar(schema))) == why:
            return f", at {where}"
    return ""


def _plainly(error: str) -> str:
    if error.startswith("oneOf constraints"):
        return "the alternatives of 'oneOf' are not told apart by their types or a required constant; use 'anyOf'"
    return _first_words(error.partition("error: ")[2] or error)


def _first_words(error: str) -> str:
    return " ".join(re.split(r"<state>|<non-verbose/>", error)[0].split())[:_WORDY]


def _grammar(form: Form) -> str:
    """The form as llguidance's own description of a grammar."""
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import any_to_lark

    source = form.source
    if not isinstance(source, str):
        return _json_grammar(enforceable({"type": "object"} if source is None else source))
    if len(source) > _LONGEST:
        raise SettingError(f"{form.kind} has {len(source):,} characters; at most {_LONGEST:,} are taken")
    if form.kind == "regex":
        return LLMatcher.grammar_from_regex(source)
    try:
        return LLMatcher.grammar_from_lark(any_to_lark(source))
    except Exception as error:
        raise SettingError(f"grammar: it is not Lark, and not GBNF: {error}") from None


def _json_grammar(schema: Mapping[str, Any]) -> str:
    from llguidance import LLMatcher

    try:
        return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_JSON)
    except ValueError as error:  # half of a character alone: no JSON in Rust
        raise SettingError(f"json_schema: {error}") from None


class _Words:
    """A vocabulary as llguidance asks for it."""

    is_tokenizer_wrapper = True

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._encode = vocabulary.encode
        self.eos_token_id = min(vocabulary.stop_ids)
        self.bos_token_id = vocabulary.bos_id
        self.tokens = [vocabulary.piece(token) for token in range(vocabulary.vocab_size)]
        self.special_token_ids = sorted(vocabulary.control_ids)

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return self._encode(text, bos=False, special=False, start=False)

    def bytes(self) -> NDArray[np.intp]:
        """The token of each single byte (256,), -1 where there is none."""
        found = np.full(256, -1, np.intp)
        special = set(self.special_token_ids)
        for token, piece in enumerate(self.tokens):
            if len(piece) == 1 and token not in special:
                found[piece[0]] = token
        return found
