"""Token shards: documents as flat token ids in files of bounded size, mapped, with an index of where each begins.

A folder of them is one stream of tokens: `NNNNN.shard` one after another, and `shards.json`, which says that the set is
whole. shards_write.py writes it; the layout is in docs/formats.md.
"""

from __future__ import annotations

import hashlib
import json
import struct
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, ModelNotFound
from llamero.formats.jsontext import read_object, write_object
from llamero.formats.mapped import Mapped

MANIFEST: Final = "shards.json"
KIND: Final = "llamero token shards"
VERSION: Final = 1
MAGIC: Final = b"LLAMSHRD"
_HEADER: Final = struct.Struct("<8sIIQQII32s32s24x")  # 128 bytes
_MARKED: Final = 1
_LARGEST: Final = 1 << 40  # tokens of one shard
_MOST: Final = 1 << 20  # shards of a set
_OPEN: Final = 256  # shards that stay mapped; a mapping keeps a file open
_STAMPS: Final = "verified.json"
_PIECE: Final = 1 << 24  # bytes hashed at once


@dataclass(frozen=True)
class Header:
    """What a shard says of itself. width: bytes of an id. tokenizer: SHA-256 of it. digest: SHA-256 of the body."""

    width: int
    tokens: int
    documents: int
    vocabulary: int
    marked: bool
    tokenizer: bytes
    digest: bytes

    @property
    def starts_at(self) -> int:
        """The byte where the index of documents begins: after the ids, padded to 8."""
        return _HEADER.size + (self.tokens * self.width + 7) // 8 * 8

    @property
    def marks_at(self) -> int:
        """The byte where the marks begin."""
        return self.starts_at + 8 * self.documents

    @property
    def file_size(self) -> int:
        """Bytes of the whole shard."""
        return self.marks_at + ((self.tokens + 7) // 8 if self.marked else 0)

    def pack(self) -> bytes:
        """The header as bytes."""
        flags = _MARKED if self.marked else 0
        counts = (self.tokens, self.documents, self.vocabulary, flags)
        return _HEADER.pack(MAGIC, VERSION, self.width, *counts, self.tokenizer, self.digest)

    @classmethod
    def read(cls, path: Path) -> Header:
        """The header of a file, compared with the file's size. Raises ModelNotFound or FormatError."""
        try:
            with path.open("rb") as file:
                raw = file.read(_HEADER.size)
            found = path.stat().st_size
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ModelNotFound(f"{path} is not there; the set of shards is not whole") from error
        if len(raw) < _HEADER.size or raw[:8] != MAGIC:
            raise FormatError(f"{path}: is no token shard: it does not begin with {MAGIC.decode()}")
        _, version, width, tokens, documents, vocabulary, flags, tokenizer, digest = _HEADER.unpack(raw)
        if version != VERSION:
            raise FormatError(f"{path}: version {version} of token shards is unknown; this llamero reads {VERSION}")
        header = cls(width, tokens, documents, vocabulary, bool(flags), tokenizer, digest)
        if width not in (2, 4) or flags > _MARKED or any(raw[-24:]):
            raise FormatError(f"{path}: ids of {width} bytes, flags {flags}: not what version {VERSION} has")
        if not (0 < documents <= tokens <= _LARGEST and 0 < vocabulary <= 1 << 8 * width):
            raise FormatError(f"{path}: {documents} documents of {tokens} tokens of a vocabulary of {vocabulary}")
        if found != header.file_size:
            what = "it is cut short" if found < header.file_size else "something was added to it"
            raise FormatError(f"{path}: {found} bytes, its header says {header.file_size}: {what}")
        return header


class Shard:
    """One mapped file of a set. ids: (tokens,). starts: (documents,), where each document begins."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        data = Mapped.open(path).data
        if data[: _HEADER.size].tobytes() != header.pack():
            raise FormatError(f"{path}: has changed since it was opened")
        self.body = data[_HEADER.size : header.file_size]
        ids = data[_HEADER.size : _HEADER.size + header.tokens * header.width]
        self.ids: NDArray[np.unsignedinteger[Any]] = ids.view(f"<u{header.width}")
        self.starts: NDArray[np.uint64] = data[header.starts_at : header.marks_at].view("<u8")
        self._marks = data[header.marks_at : header.file_size]
        if self.starts[0] != 0 or self.starts[-1] >= header.tokens or (self.starts[1:] <= self.starts[:-1]).any():
            raise FormatError(f"{path}: its documents do not begin one after another within its {header.tokens} tokens")

    def read(self, first: int, last: int) -> NDArray[np.unsignedinteger[Any]]:
        """Ids from `first` up to `last`. Raises FormatError for one beyond the vocabulary."""
        ids = self.ids[first:last]
        if ids.size and int(ids.max()) >= self.header.vocabulary:
            place = first + int((ids >= self.header.vocabulary).argmax())
            document = self.document(place)
            raise FormatError(
                f"{self.path}: document {document}, token {place - int(self.starts[document])} of it "
                f"(place {place} of the shard): id {int(self.ids[place])} is beyond the vocabulary of "
                f"{self.header.vocabulary}; the file is damaged, or written with another tokenizer"
            )
        return ids

    def marks(self, first: int, last: int) -> NDArray[np.bool_]:
        """Which tokens from `first` up to `last` count in the loss."""
        begin = first // 8
        bits = np.unpackbits(self._marks[begin : (last + 7) // 8], bitorder="little")
        return bits[first - 8 * begin : last - 8 * begin].view(np.bool_)

    def document(self, place: int) -> int:
        """Which of the shard's documents a token belongs to."""
        return int(np.searchsorted(self.starts, place, side="right")) - 1

    def verify(self) -> None:
        """Read everything: ids within the vocabulary, padding of zeros, and the hash of the body."""
        digest = hashlib.sha256()
        for at in range(0, len(self.body), _PIECE):
            digest.update(self.body[at : at + _PIECE].data)
        if digest.digest() != self.header.digest:
            raise FormatError(
                f"{self.path}: the data has changed: its hash is {digest.hexdigest()}, written was "
                f"{self.header.digest.hex()}; restore the file or write the set again"
            )
        for at in range(0, self.header.tokens, _PIECE):
            self.read(at, min(at + _PIECE, self.header.tokens))


class Shards:
    """A whole set: one stream of `tokens` ids in `documents` documents, none of which lies over two shards.

    fingerprint: names the content, tokenizer and division. tokenizer: SHA-256 in hex. about: what the writer noted.
    """

    def __init__(self, folder: Path, headers: Sequence[Header], fingerprint: str, about: Mapping[str, Any]) -> None:
        self.folder, self.fingerprint, self.about = folder, fingerprint, about
        self.name = folder.name
        self.headers = tuple(headers)
        self.vocabulary, self.marked = headers[0].vocabulary, headers[0].marked
        self.tokenizer = headers[0].tokenizer.hex()
        self._ends = list(accumulate((header.tokens for header in headers), initial=0))
        self._documents = list(accumulate((header.documents for header in headers), initial=0))
        self.tokens, self.documents = self._ends[-1], self._documents[-1]
        self._shard: Callable[[int], Shard] = lru_cache(maxsize=_OPEN)(self._opened)

    @classmethod
    def open(cls, folder: str | Path) -> Shards:
        """Open a set: every header and size is compared with the manifest, no token is read.

        Raises ModelNotFound where no whole set is, FormatError where it was changed.
        """
        folder = Path(folder)
        manifest = folder / MANIFEST
        if not manifest.is_file():
            raise ModelNotFound(f"{folder} holds no whole set of token shards: {MANIFEST} is not there")
        count, facts, about = _facts(manifest)
        headers = [Header.read(shard_path(folder, number)) for number in range(count)]
        found = summary(headers)
        for key in facts:
            if facts[key] != found[key]:
                raise FormatError(f"{manifest}: {key} is {facts[key]!r}, the shards beside it have {found[key]!r}")
        for number, header in enumerate(headers):
            if not alike(header, headers[0]):
                raise FormatError(f"{shard_path(folder, number)}: is of another set than shard 0")
        return cls(folder, headers, found["fingerprint"], about)

    def read(self, first: int, last: int) -> NDArray[np.unsignedinteger[Any]]:
        """Ids (last - first,) of the stream, a view where one shard has them all."""
        parts = [shard.read(begin, end) for shard, begin, end in self._parts(first, last)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def marks(self, first: int, last: int) -> NDArray[np.bool_] | None:
        """Which tokens of the stream count in the loss; None where all do."""
        if not self.marked:
            return None
        return np.concatenate([shard.marks(begin, end) for shard, begin, end in self._parts(first, last)])

    def borders(self, first: int, last: int) -> NDArray[np.int64]:
        """Where documents begin, from place `first` up to `last` of the stream, in order."""
        found = []
        for shard, begin, end in self._parts(first, last):
            low, high = np.searchsorted(shard.starts, [begin, end])
            found.append(shard.starts[low:high].astype(np.int64) + (first - begin))
            first += end - begin
        return np.concatenate(found)

    def document(self, place: int) -> int:
        """The number of the document that holds a token of the stream."""
        number = bisect_right(self._ends, place) - 1
        return self._documents[number] + self._shard(number).document(place - self._ends[number])

    def verify(self, tell: Callable[[int, int], None] = lambda _done, _total: None, *, anew: bool = False) -> None:
        """Read and hash every shard that has not been hashed since it was last changed.

        tell: told of bytes done and their total. anew: hash the others too, for a disk changes a byte without the
        file's time. Raises FormatError naming the first shard that is not what was
        written, with both hashes.
        """
        stamps = {} if anew else _stamps(self.folder)
        done, total = 0, sum(header.file_size for header in self.headers)
        for number, header in enumerate(self.headers):
            path = shard_path(self.folder, number)
            stamp = [path.stat().st_size, path.stat().st_mtime_ns, header.digest.hex()]
            if stamps.get(path.name) != stamp:
                self._opened(number).verify()
                stamps[path.name] = stamp
            done += header.file_size
            tell(done, total)
        with suppress(OSError):  # a folder that cannot be written to is hashed each time
            write_object(self.folder / _STAMPS, stamps)

    def _parts(self, first: int, last: int) -> list[tuple[Shard, int, int]]:
        """The shards of a stretch of the stream, each with the stretch's places in it."""
        assert 0 <= first < last <= self.tokens
        begin, end = bisect_right(self._ends, first) - 1, bisect_right(self._ends, last - 1)
        return [
            (
                self._shard(number),
                max(first - self._ends[number], 0),
                min(last, self._ends[number + 1]) - self._ends[number],
            )
            for number in range(begin, end)
        ]

    def _opened(self, number: int) -> Shard:
        return Shard(shard_path(self.folder, number), self.headers[number])


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard of a set lies."""
    return folder / f"{number:05}.shard"


def alike(one: Header, other: Header) -> bool:
    """Whether two shards can be of one set."""
    return all(getattr(one, key) == getattr(other, key) for key in ("width", "vocabulary", "marked", "tokenizer"))


def summary(headers: Sequence[Header]) -> dict[str, Any]:
    """What the manifest says of the shards. The fingerprint is the SHA-256 of all headers, which hold the bodies'."""
    return {
        "fingerprint": hashlib.sha256(b"".join(header.pack() for header in headers)).hexdigest(),
        "tokens": sum(header.tokens for header in headers),
        "documents": sum(header.documents for header in headers),
        "vocabulary": headers[0].vocabulary,
        "tokenizer": headers[0].tokenizer.hex(),
        "marked": headers[0].marked,
    }


def _facts(manifest: Path) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """The number of shards, what is said of them, and the writer's notes."""
    found = read_object(manifest)
    if found.get("format") != KIND or found.get("version") != VERSION:
        version = json.dumps(found.get("version"))[:40]
        raise FormatError(f"{manifest}: is not the manifest of {KIND}, version {VERSION} (its version: {version})")
    facts = ("fingerprint", "tokens", "documents", "vocabulary", "tokenizer", "marked")
    missing = [key for key in (*facts, "shards", "about") if key not in found]
    count, about = found.get("shards"), found.get("about")
    if missing or type(count) is not int or not 0 < count <= _MOST or not isinstance(about, dict):
        raise FormatError(f"{manifest}: lacks {', '.join(missing) or 'a number of shards, or notes'}")
    return count, {key: found[key] for key in facts}, about


def _stamps(folder: Path) -> dict[str, Any]:
    """Which shards were hashed before: name -> size, time of last change, hash. Empty when that cannot be read."""
    try:
        return read_object(folder / _STAMPS)
    except (FormatError, ModelNotFound, OSError):
        return {}
