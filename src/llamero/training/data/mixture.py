"""Batches from several streams at once: each row is one stream's, whose turn it is by their shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from llamero.errors import SettingError
from llamero.formats.shards import Shards
from llamero.training.data.batch import Batch, Ids
from llamero.training.data.rows import Packing, Row, batch_of, rows_of
from llamero.training.data.shares import Share, Wish, in_rows, solve
from llamero.training.data.tokens import Stream
from llamero.training.data.turns import Turns


class Mixture:
    """A `Source` over several streams. Each has its own epochs: it begins a new one when its rows are used up.

    streams: by name. proportions: of all rows, for the same names, which `shares.solve` finds; `shares.in_rows` says
    how exactly they are kept.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        proportions: Mapping[str, Fraction],
        *,
        context: int,
        sequences: int,
        seed: int = 0,
        packing: Packing = "stream",
    ) -> None:
        if sequences < 1:
            raise SettingError(f"sequences must be at least 1, got {sequences}")
        if not streams or streams.keys() != proportions.keys() or min(proportions.values()) <= 0:
            raise SettingError("a mixture needs a proportion above 0 for each of its streams")
        self.names = tuple(streams)
        self.rows = [rows_of(stream, context=context, seed=seed, packing=packing) for stream in streams.values()]
        self.turns = Turns(in_rows([proportions[name] for name in self.names]), seed)
        self.context, self.sequences, self.seed, self.packing = context, sequences, seed, packing

    @property
    def origin(self) -> dict[str, Any]:
        """What decides every batch."""
        values: dict[str, Any] = {"context": self.context, "sequences": self.sequences, "packing": self.packing}
        for name, rows, count in zip(self.names, self.rows, self.turns.rows.tolist(), strict=True):
            values |= {f"data.{name}": rows.stream.fingerprint, f"mix.{name}": f"{count}/{self.turns.period}"}
        return values | {"seed": self.seed}

    def at(self, step: int) -> Batch:
        """The batch of a step, whatever was asked before."""
        parts, numbers = self._turns(step)
        rows: list[Row | None] = [None] * self.sequences
        for part in np.unique(parts).tolist():
            places = np.flatnonzero(parts == part).tolist()
            for place, row in zip(places, self.rows[part].at(numbers[parts == part]), strict=True):
                rows[place] = row
        return batch_of([row for row in rows if row is not None])

    def documents(self, step: int) -> list[str]:
        """Which documents the step's batch holds, part by part."""
        parts, numbers = self._turns(step)
        found = [name for part in np.unique(parts) for name in self.rows[part].documents(numbers[parts == part])]
        return list(dict.fromkeys(found))

    def epochs(self, step: int) -> dict[str, float]:
        """How often each part's rows were seen before a step."""
        done = step * self.sequences
        periods, rest = divmod(done, self.turns.period)
        parts, _ = self.turns.at(np.arange(rest))
        seen = periods * self.turns.rows + np.bincount(parts, minlength=len(self.rows))
        return {name: int(n) / rows.count for name, n, rows in zip(self.names, seen, self.rows, strict=True)}

    def _turns(self, step: int) -> tuple[Ids, Ids]:
        return self.turns.at(np.arange(step * self.sequences, (step + 1) * self.sequences))


def parse_mix(words: Sequence[str]) -> tuple[dict[str, Path], dict[str, Wish | None]]:
    """Folders and wishes by name from "FOLDER=0.67", "FOLDER=2.45x" or "FOLDER" alone; the name is the folder's own.

    Raises SettingError for a word that is not so, or two folders of one name.
    """
    folders: dict[str, Path] = {}
    wishes: dict[str, Wish | None] = {}
    for word in words:
        path, equals, wish = (word, "", "") if Path(word).is_dir() else word.rpartition("=")
        name = Path(path or word).resolve().name
        if name in folders:
            raise SettingError(f"two parts of the mixture are called {name!r}; rename one of the folders")
        folders[name], wishes[name] = Path(path or word), Wish.parse(wish) if equals else None
    return folders, wishes


def open_mix(words: Sequence[str], total: int | None) -> tuple[dict[str, Shards], list[Share]]:
    """The shards of a mixture as `parse_mix` reads it, and its shares. total: tokens seen in all.

    Folders without a share are seen equally often; where some have one, all must. Raises SettingError, ModelNotFound
    or FormatError; also where the parts were written with different tokenizers.
    """
    folders, wishes = parse_mix(words)
    streams = {name: Shards.open(folder) for name, folder in folders.items()}
    first = next(iter(streams.values()), None)
    for stream in streams.values():
        if first is not None and (stream.tokenizer, stream.vocabulary) != (first.tokenizer, first.vocabulary):
            raise SettingError(f"{stream.folder} and {first.folder} were written with different tokenizers")
    given = {name: wish for name, wish in wishes.items() if wish is not None}
    if not given:
        given = {name: Wish(Fraction(stream.tokens)) for name, stream in streams.items()}
    return streams, solve({name: stream.tokens for name, stream in streams.items()}, given, total)
