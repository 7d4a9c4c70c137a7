"""A bundle: one program file that holds a launcher, an engine, the weights and a manifest of all that with its hashes.

The layout is laid down in docs/formats.md. The launcher (native/launcher) reads the same head as this file does.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from llamero.errors import FormatError, UnsupportedError
from llamero.formats.gguf import GGUF
from llamero.formats.mapped import Mapped

HEAD_AT: Final = 65536
"""Where the head begins; the launcher before it is filled up with zeros."""
PAGE: Final = 65536
"""Engine and weights begin at multiples of this: whole pages of any machine."""
MAGIC: Final = b"llamero bundle\n\0"
VERSION: Final = 1
MOST_MANIFEST: Final = 1 << 20  # bytes
ROLES: Final = ("launcher", "engine", "model", "lineage", "licence")

_HEAD: Final = struct.Struct("<16s2I8Q32s32s72s")
_SIZE: Final = _HEAD.size + 32
_CHUNK: Final = 1 << 22
_AGAIN: Final = "fetch or make it again"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Head:
    """What the launcher needs to know. Offsets and sizes in bytes; digests are SHA-256."""

    total: int
    launcher: int
    engine_at: int
    engine: int
    index: int
    unpacked: int
    manifest_at: int
    manifest: int
    engine_digest: bytes
    manifest_digest: bytes

    def to_bytes(self) -> bytes:
        """The head as it stands in the file."""
        numbers = (self.total, self.launcher, self.engine_at, self.engine, self.index, self.unpacked)
        places = (self.manifest_at, self.manifest)
        digests = (self.engine_digest, self.manifest_digest, b"")
        raw = _HEAD.pack(MAGIC, VERSION, 0, *numbers, *places, *digests)
        return raw + hashlib.sha256(raw).digest()

    @classmethod
    def from_bytes(cls, raw: bytes, size: int, path: Path) -> Head:
        """Check a head against a file of `size` bytes. Raises FormatError, UnsupportedError for another version."""
        if len(raw) < _SIZE or raw[:16] != MAGIC:
            raise FormatError(f"{path} is a program, but no bundle, or was cut short; {_AGAIN}")
        if hashlib.sha256(raw[: _HEAD.size]).digest() != raw[_HEAD.size : _SIZE]:
            raise FormatError(f"{path}: the head of the bundle is damaged; {_AGAIN}")
        _, version, zero, *numbers, engine_digest, manifest_digest, rest = _HEAD.unpack(raw[: _HEAD.size])
        if version != VERSION:
            raise UnsupportedError(f"{path} is a bundle of version {version}; this llamero reads version {VERSION}")
        names = [field.name for field in fields(cls)]
        head = cls(**dict(zip(names, (*numbers, engine_digest, manifest_digest), strict=True)))
        if size != head.total:
            what = "cut short" if size < head.total else "longer than it was made"
            raise FormatError(f"{path} is {what}: it has {size} bytes of {head.total}; {_AGAIN}")
        first = HEAD_AT + _SIZE
        inside = first <= head.engine_at <= size - head.engine and first <= head.manifest_at <= size - head.manifest
        inside &= head.manifest_at + head.manifest == size  # or bytes behind it could be changed unseen
        if zero or any(rest) or not inside or head.launcher > HEAD_AT or head.manifest > MOST_MANIFEST:
            raise FormatError(f"{path}: the head of the bundle contradicts itself; {_AGAIN}")
        return head


@dataclass(frozen=True)
class Part:
    """One thing inside. role: one of ROLES; at, size: bytes of the file."""

    role: str
    name: str
    at: int
    size: int
    sha256: str  # hexadecimal


class Bundle:
    """An open bundle. `manifest` is what it says of itself, beside the parts."""

    def __init__(self, path: Path, head: Head, manifest: Mapping[str, Any], parts: Sequence[Part]) -> None:
        self.path = path
        self.head = head
        self.manifest: Mapping[str, Any] = MappingProxyType(dict(manifest))
        self.parts = tuple(parts)

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read and check head and manifest; the parts' own bytes are only checked by `verify`.

        Raises FormatError for a file that is no bundle, was cut short, or contradicts itself.
        """
        path = Path(path)
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(HEAD_AT)
            head = Head.from_bytes(file.read(_SIZE), size, path)
            file.seek(head.manifest_at)
            raw = file.read(head.manifest)
        if hashlib.sha256(raw).digest() != head.manifest_digest:
            raise FormatError(f"{path}: the manifest of the bundle is damaged; {_AGAIN}")
        manifest = _manifest(raw, path)
        return cls(path, head, manifest, _parts(manifest, head, path))

    @property
    def identity(self) -> str:
        """The SHA-256 of the manifest, which holds those of all parts: two bundles with the same one are the same."""
        return self.head.manifest_digest.hex()

    def of(self, role: str) -> list[Part]:
        """The parts with that role, in their order."""
        return [part for part in self.parts if part.role == role]

    def model(self) -> GGUF:
        """The weights, mapped where they lie. The reader's path is the bundle's."""
        return GGUF.from_files(self.path, [Mapped.open(self.path, part.at, part.size) for part in self.of("model")])

    def read(self, part: Part) -> Iterator[bytes]:
        """A part's bytes, piece by piece."""
        with self.path.open("rb") as file:
            file.seek(part.at)
            yield from _pieces(file, part.size, self.path)

    def verify(self, progress: Progress | None = None) -> None:
        """Read every byte of the file and hold it against the manifest. Raises FormatError naming what was changed.

        progress: told (bytes read, bytes in all).
        """
        with self.path.open("rb") as file:
            done = 0
            for part in sorted(self.parts, key=lambda part: part.at):
                self._check_gap(file, done, part.at)
                digest = hashlib.sha256()
                file.seek(part.at)
                for piece in _pieces(file, part.size, self.path):
                    digest.update(piece)
                    done = file.tell()
                    if progress:
                        progress(done, self.head.total)
                if digest.hexdigest() != part.sha256:
                    raise FormatError(f"{self.path}: the {part.role} {part.name!r} was changed or is damaged; {_AGAIN}")
                done = part.at + part.size
            self._check_gap(file, done, self.head.manifest_at)

    def _check_gap(self, file: BinaryIO, start: int, end: int) -> None:
        """Between the parts are zeros, and the head."""
        if start <= HEAD_AT < end:
            self._check_gap(file, start, HEAD_AT)
            start = HEAD_AT + _SIZE
        file.seek(start)
        for piece in _pieces(file, end - start, self.path):
            if piece.strip(b"\0"):
                raise FormatError(f"{self.path}: bytes between {start} and {end} belong to no part; {_AGAIN}")


def _pieces(file: BinaryIO, size: int, path: Path) -> Iterator[bytes]:
    while size:
        piece = file.read(min(size, _CHUNK))
        if not piece:
            raise FormatError(f"{path} became shorter while it was read; {_AGAIN}")
        size -= len(piece)
        yield piece


def _manifest(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: the manifest of the bundle is no JSON: {error}") from None
    if not isinstance(manifest, dict) or not _is_shaped(manifest):
        raise FormatError(f"{path}: the manifest of the bundle does not say what one should; {_AGAIN}")
    return manifest


def _is_shaped(manifest: Mapping[str, Any]) -> bool:
    kinds = {"parts": list, "model": dict, "settings": dict, "licences": list}
    shaped = all(isinstance(manifest.get(name, kind()), kind) for name, kind in kinds.items())
    return shaped and all(isinstance(one, dict) for one in manifest.get("licences", ()))


def _parts(manifest: Mapping[str, Any], head: Head, path: Path) -> list[Part]:
    """The parts, none of which lies outside the file, on another, or where the head does not say."""
    try:
        parts = [Part(**entry) for entry in manifest.get("parts", ())]
    except TypeError:
        raise FormatError(f"{path}: a part in the bundle's manifest is described wrongly; {_AGAIN}") from None
    end = 0
    for part in sorted(parts, key=lambda part: part.at if isinstance(part.at, int) else -1):
        sound = part.role in ROLES and isinstance(part.name, str) and isinstance(part.sha256, str)
        sound = sound and type(part.at) is int and type(part.size) is int and end <= part.at and part.size >= 0
        if not sound or part.at + part.size > head.manifest_at or _crosses_head(part):
            raise FormatError(f"{path}: the part {part.name!r} of the bundle lies where it cannot; {_AGAIN}")
        end = part.at + part.size
    if len({(part.role, part.name) for part in parts}) < len(parts):
        raise FormatError(f"{path}: two parts of the bundle have one name; {_AGAIN}")
    placed = [(part.role, part.at, part.size) for part in parts if part.role in ("launcher", "engine")]
    if placed != [("launcher", 0, head.launcher), ("engine", head.engine_at, head.engine)]:
        raise FormatError(f"{path}: manifest and head of the bundle contradict each other; {_AGAIN}")
    if not any(part.role == "model" for part in parts):
        raise FormatError(f"{path}: there is no model in the bundle; {_AGAIN}")
    if next(part.sha256 for part in parts if part.role == "engine") != head.engine_digest.hex():
        raise FormatError(f"{path}: manifest and head of the bundle name different engines; {_AGAIN}")
    return parts


def _crosses_head(part: Part) -> bool:
    return part.at < HEAD_AT + _SIZE and part.at + part.size > HEAD_AT
