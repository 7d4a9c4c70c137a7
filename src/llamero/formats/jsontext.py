"""JSON of a model's side files and headers, parsed strictly and within bounds. Knows nothing of what it says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llamero.errors import FormatError, ModelNotFound
from llamero.formats.atomic import atomic_file

_MAX_BYTES: Final = 1 << 25
_MAX_MARKS: Final = 1 << 20  # of { [ and , : bounds how many Python objects a text can turn into


def parse_object(raw: bytes, where: str) -> dict[str, Any]:
    """A JSON object from UTF-8 bytes; `where` names it in errors.

    Raises FormatError for anything else, a key that is there twice in one object, or a text beyond all measure.
    """
    if len(raw) > _MAX_BYTES or sum(raw.count(mark) for mark in (b"{", b"[", b",")) > _MAX_MARKS:
        raise FormatError(f"{where}: {len(raw)} bytes of JSON are more than any model's")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_no_repeats)
        if b"\\u" in raw:  # an escape can smuggle in half a surrogate pair, which no later message could print
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise FormatError(f"{where}: the JSON is nested too deeply") from None
    except ValueError as error:
        raise FormatError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{where}: expected a JSON object, found a {type(value).__name__}")
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:200]!r} is there twice")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelNotFound where there is none, FormatError as `parse_object` does."""
    if not path.is_file():
        raise ModelNotFound(f"{path} is not there")
    if path.stat().st_size > _MAX_BYTES:
        raise FormatError(f"{path}: {path.stat().st_size} bytes of JSON are more than any model's")
    return parse_object(path.read_bytes(), str(path))


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, atomically. Raises TypeError for what JSON cannot hold."""
    text = json.dumps(dict(value), indent=2, ensure_ascii=False) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())
