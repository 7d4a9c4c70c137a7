"""Reading documents from text files, plain or compressed, as a stream: JSON lines, or texts cut at a line."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from llamero.corpus.document import Document
from llamero.errors import FormatError, ModelNotFound, SettingError, nearest

SEPARATOR: Final = "<|endoftext|>"
_LINES: Final = (".jsonl", ".ndjson")
_TEXTS: Final = (".txt", ".text", ".md")
_PACKED: Final = (".gz", ".xz", ".zst")
_BUFFER: Final = 1 << 20
_LONGEST: Final = 1 << 28  # bytes of a line, characters of a document; a packed file can hold a line without end

Tell = Callable[[int], None]
"""Told how many bytes of the files on the disk have been read."""


def text_files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and for a folder the texts in it and below it, sorted by path.

    Raises ModelNotFound for a name where nothing is, or a folder without texts.
    """
    found: list[Path] = []
    for path in paths:
        inside = [path] if path.is_file() else sorted(each for each in path.rglob("*") if _is_text(each))
        if not inside:
            known = ", ".join((*_TEXTS, *_LINES))
            what = f"has no texts in it ({known}, also {', '.join(_PACKED)})" if path.is_dir() else "is not there"
            raise ModelNotFound(f"{path} {what}")
        found += inside
    return found


def documents(
    files: Sequence[Path],
    *,
    field: str = "text",
    separator: str | None = SEPARATOR,
    longest: int | None = None,
    tell: Tell = lambda _: None,
) -> Iterator[Document]:
    """The documents of some files, one file after another; blank ones are left out.

    `.jsonl`: each line is an object whose `field` is the text. Any other file is text, cut where a line is the
    separator and nothing else ("" cuts at blank lines); None takes a file as one document. Both in UTF-8, and
    compressed where the name ends in .gz, .xz or .zst. longest: characters after which such a text is also cut, at
    the next end of a line, for readers to whom a document's borders mean little.
    Raises FormatError naming file and line for anything else.
    """
    before = 0
    for path in files:
        with ExitStack() as stack:
            raw = stack.enter_context(_opened(path))
            lines = _decoded(path, stack.enter_context(_unpacked(path, raw)))
            texts = _from_lines(path, lines, field) if _kind(path) in _LINES else _cut(path, lines, separator, longest)
            for text in texts:
                tell(before + raw.tell())
                yield Document(text, str(path))
        before += path.stat().st_size
        tell(before)


def _kind(path: Path) -> str:
    """The ending that says what the unpacked file is."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in _PACKED else path.suffix.lower()


def _is_text(path: Path) -> bool:
    return path.is_file() and _kind(path) in (*_TEXTS, *_LINES) and not path.name.startswith(".")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelNotFound(f"{path}: no such text") from error


def _unpacked(path: Path, raw: BinaryIO) -> BinaryIO:
    match path.suffix.lower():
        case ".gz":
            return BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER)
        case ".xz":
            return cast(BinaryIO, BufferedReader(cast(Any, lzma.LZMAFile(raw)), _BUFFER))
        case ".zst":
            return BufferedReader(_zstandard(path).ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        case _:
            return raw


def _zstandard(path: Path) -> Any:
    try:
        return import_module("zstandard")
    except ImportError as error:
        raise SettingError(f"{path}: to read .zst files, `pip install zstandard`") from error


def _decoded(path: Path, file: BinaryIO) -> Iterator[str]:
    """The lines of a file with their ends. Raises FormatError for what is not UTF-8 or was cut while packed."""
    number = 0
    try:
        while line := file.readline(_LONGEST):
            number += 1
            if len(line) == _LONGEST:
                raise FormatError(f"{path}, line {number}: more than {_LONGEST} bytes: not a text for people")
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}, line {number}: not text in UTF-8: {error.reason} at byte {error.start}") from error
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise FormatError(f"{path}, after line {number}: cannot be unpacked: {error}") from error
    except Exception as error:
        if type(error).__module__.startswith("zstandard"):
            raise FormatError(f"{path}, after line {number}: cannot be unpacked: {error}") from error
        raise


def _cut(path: Path, lines: Iterator[str], separator: str | None, longest: int | None) -> Iterator[str]:
    part: list[str] = []
    size = 0
    for line in lines:
        if separator is not None and line.strip() == separator:
            yield from _joined(part)
            part, size = [], 0
            continue
        part.append(line)
        size += len(line)
        if longest is not None and size >= longest:
            yield from _joined(part)
            part, size = [], 0
        if size > _LONGEST:
            cut = "it is not cut at all" if separator is None else f"is {separator!r} what is between its documents?"
            raise FormatError(f"{path}: a document of more than {_LONGEST} characters; {cut}")
    yield from _joined(part)


def _joined(part: list[str]) -> Iterator[str]:
    text = "".join(part).strip()
    if text:
        yield text


def _from_lines(path: Path, lines: Iterator[str], field: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{where}: not valid JSON: {error}") from None
        if not isinstance(value, dict):
            raise FormatError(f"{where}: expected a JSON object, found a {type(value).__name__}")
        if not isinstance(value.get(field), str):
            texts = [name for name, each in value.items() if isinstance(each, str)]
            hint = nearest(field, texts) if texts else "no field of it holds text"
            raise FormatError(f"{where}: has no text in the field {field!r}: {hint}")
        text: str = value[field]
        if "\\u" in line and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise FormatError(f"{where}: the text holds half a surrogate pair, which is no Unicode")
        if text and not text.isspace():
            yield text
