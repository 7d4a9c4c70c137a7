"""Text files into a tokenizer: read as a stream, learnt from, and written down with its lineage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from llamero.corpus.texts import SEPARATOR, documents, text_files
from llamero.errors import SettingError, nearest
from llamero.formats.lineage import lineage
from llamero.tokenizer.chat import BUILTIN, ChatTemplate
from llamero.tokenizer.learn import SPECIALS, learn
from llamero.tokenizer.learn_sentencepiece import COVERAGE, learn_sentencepiece
from llamero.tokenizer.names import llama3_specials
from llamero.tokenizer.save import FILES, save_tokenizer
from llamero.tokenizer.tokenizer import Tokenizer

Kind = Literal["llama", "llama3"]
KINDS: Final[dict[str, str]] = {
    "llama": "SentencePiece BPE, as Llama 1 and 2: byte fallback, single digits",
    "llama3": "byte-level BPE, as Llama 3: its split pattern, ranks",
}
_LONGEST: Final = 1 << 22  # characters in memory at once of a text without separators
Tell = Callable[[str, int, int], None]
"""Told what is done ("hashing", "reading", "learning"), bytes done and bytes in all; learning has no measure."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is to be learnt from which texts.

    texts: files, and folders of them. size: tokens, special ones included. kind: one of `KINDS`. specials: more
    special tokens, after the kind's own. reserved: Llama 3's 256 special tokens instead of the five that texts and
    chats need. coverage: share of characters that become tokens (llama). template: a chat format of tokenizer/chat.py
    by name; None for the kind's own. field, separator: as `documents` takes them. licences: notes for the lineage.
    """

    texts: tuple[Path, ...]
    out: Path
    size: int
    kind: Kind = "llama3"
    specials: tuple[str, ...] = ()
    reserved: bool = False
    coverage: float = COVERAGE
    template: str | None = None
    field: str = "text"
    separator: str | None = SEPARATOR
    licences: tuple[str, ...] = ()
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingError(f"there is no vocabulary of the kind {self.kind!r}; {nearest(self.kind, KINDS)}")
        if self.reserved and self.kind != "llama3":
            raise SettingError("only the kind llama3 has reserved special tokens; name your own with specials")
        if self.coverage != COVERAGE and self.kind != "llama":
            raise SettingError("only the kind llama asks for a coverage; byte-level vocabularies cover everything")
        if self.template is not None and self.template not in BUILTIN:
            raise SettingError(f"there is no chat format {self.template!r}; {nearest(self.template, BUILTIN)}")
        there = [name for name in FILES if (self.out / name).exists()]
        if there and not self.overwrite:
            raise SettingError(f"{self.out} holds a tokenizer already ({there[0]}); name another, or --overwrite it")


def learn_tokenizer(lesson: Lesson, tell: Tell = lambda _what, _done, _total: None) -> Tokenizer:
    """Learn and save a tokenizer into the lesson's folder.

    Memory holds the texts' different words and one document. Raises ModelNotFound for missing texts, FormatError for
    what is not UTF-8, SettingError and TokenizerError where size and texts do not go together.
    """
    lineage.check_free(lesson.out, "tokenizer")
    files = text_files(lesson.texts)
    made_by = lineage.compose(
        "tokenizer",
        parents=[("text", file) for file in files],
        settings=_settings(lesson),
        licences=lesson.licences,
        progress=lambda done, total: tell("hashing", done, total),
    )
    tokenizer = _learnt(lesson, _texts(lesson, files, tell))
    save_tokenizer(tokenizer, lesson.out)
    lineage.write(lesson.out, made_by)
    return tokenizer


def _learnt(lesson: Lesson, texts: Iterator[str]) -> Tokenizer:
    if lesson.kind == "llama":
        definition = learn_sentencepiece(texts, lesson.size, lesson.specials, coverage=lesson.coverage)
    else:
        own: Sequence[str] = llama3_specials() if lesson.reserved else SPECIALS
        definition = learn(texts, lesson.size, [*own, *lesson.specials])
    if lesson.template is not None:
        source = ChatTemplate.builtin(lesson.template).source
        definition = replace(definition, rules=replace(definition.rules, chat_template=source))
    return Tokenizer(definition)


def _texts(lesson: Lesson, files: Sequence[Path], tell: Tell) -> Iterator[str]:
    total = sum(file.stat().st_size for file in files)
    for document in documents(
        files,
        field=lesson.field,
        separator=lesson.separator,
        longest=_LONGEST,
        tell=lambda done: tell("reading", done, total),
    ):
        yield document.text
    tell("learning", 0, 0)


def _settings(lesson: Lesson) -> dict[str, Any]:
    apart = ("texts", "out", "licences", "overwrite")
    return {name: value for name, value in asdict(lesson).items() if name not in apart}
