"""The counts of all replicas together: each tells its own at a private Unix socket, and any of them can be asked.

Whoever scrapes `/metrics` reaches one replica, and not always the same; it answers for all, with a label for each.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llamero.interfaces.server.counts.exposition import Family, together

_PATIENCE = 2.0  # seconds; a sibling that does not answer is left out


class Siblings:
    """This replica among the others, which meet in a folder that only their owner may enter."""

    def __init__(self, folder: Path, index: int, own: Callable[[], list[Family]]) -> None:
        self._folder, self._index, self._own = folder, index, own
        self._server: asyncio.AbstractServer | None = None

    async def open(self) -> None:
        """Begin to tell."""
        place = self._folder / f"{self._index}.sock"
        place.unlink(missing_ok=True)  # of a replica that died
        self._server = await asyncio.start_unix_server(self._tell, place)

    def close(self) -> None:
        if self._server:
            self._server.close()

    async def families(self) -> list[Family]:
        """The counts of all that answer, each sample marked with its replica."""
        others = sorted(place for place in self._folder.glob("*.sock") if place.stem != str(self._index))
        heard = await asyncio.gather(*map(_ask, others), return_exceptions=True)
        parts = [(str(self._index), self._own())]
        parts += [(place.stem, said) for place, said in zip(others, heard, strict=True) if isinstance(said, list)]
        return together(sorted(parts, key=lambda part: part[0]), "replica")

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(json.dumps([asdict(family) for family in self._own()]).encode())
            await writer.drain()
        except ConnectionError:
            pass  # who asked has left
        finally:
            writer.close()


async def _ask(place: Path) -> list[Family]:
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_unix_connection(place)
        try:
            told: list[dict[str, Any]] = json.loads(await reader.read())
        finally:
            writer.close()
    return [_family(row) for row in told]


def _family(row: dict[str, Any]) -> Family:
    samples = [(end, tuple((name, value) for name, value in labels), value) for end, labels, value in row["samples"]]
    return Family(row["name"], row["kind"], row["help"], samples)
