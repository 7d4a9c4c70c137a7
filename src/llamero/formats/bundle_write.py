"""Writing a bundle, part by part. Knows where things go, not what they are."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from llamero.errors import SettingError
from llamero.formats.atomic import atomic_file
from llamero.formats.bundle import HEAD_AT, PAGE, Head, Part

_CLOSE: Final = 64  # where parts begin that nobody maps


class Hashing(io.RawIOBase):
    """A stretch of a file from its present end on, whose bytes are counted and hashed as they are written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.at = file.tell()
        self.size = 0
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._file.write(view)
        self.digest.update(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size


class BundleWriter:
    """A bundle being written: parts in their order, then `finish`."""

    def __init__(self, file: BinaryIO, launcher: bytes) -> None:
        if len(launcher) > HEAD_AT:
            raise SettingError(f"the launcher has {len(launcher)} bytes; {HEAD_AT} are the most")
        self._file = file
        self.parts: list[Part] = []
        with self.part("launcher", "launcher") as into:
            into.write(launcher)
        file.write(bytes(PAGE + HEAD_AT - len(launcher)))  # the head's place too

    @contextmanager
    def part(self, role: str, name: str) -> Iterator[BinaryIO]:
        """Something to write one part into."""
        step = PAGE if role in ("engine", "model") else _CLOSE
        self._file.write(bytes(-self._file.tell() % step))
        into = Hashing(self._file)
        yield cast(BinaryIO, into)
        self.parts.append(Part(role, name, into.at, into.size, into.digest.hexdigest()))

    def add(self, role: str, name: str, pieces: Iterable[bytes]) -> None:
        """A part whose bytes are there already."""
        with self.part(role, name) as into:
            into.writelines(pieces)

    def finish(self, manifest: Mapping[str, Any], index: int, unpacked: int) -> Head:
        """Write manifest and head. index, unpacked: bytes of the engine's index, and of its files unpacked."""
        engine = next(part for part in self.parts if part.role == "engine")
        whole = {**manifest, "parts": [asdict(part) for part in self.parts]}
        raw = json.dumps(whole, ensure_ascii=False, indent=1).encode()
        at = self._file.tell()
        self._file.write(raw)
        head = Head(
            total=at + len(raw),
            launcher=self.parts[0].size,
            engine_at=engine.at,
            engine=engine.size,
            index=index,
            unpacked=unpacked,
            manifest_at=at,
            manifest=len(raw),
            engine_digest=bytes.fromhex(engine.sha256),
            manifest_digest=hashlib.sha256(raw).digest(),
        )
        self._file.seek(HEAD_AT)
        self._file.write(head.to_bytes())
        self._file.seek(0, 2)
        return head


@contextmanager
def bundle_file(path: Path, launcher: bytes) -> Iterator[BundleWriter]:
    """A writer of a bundle that takes the name `path`, and may be run, once it is whole."""
    with atomic_file(path) as file:
        yield BundleWriter(file, launcher)
        mode = os.fstat(file.fileno()).st_mode
        os.fchmod(file.fileno(), mode | (mode & 0o444) >> 2)  # whoever may read it may run it
