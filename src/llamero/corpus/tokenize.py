"""Text files into a set of token shards, which depends on texts, tokenizer and settings alone; a stop costs little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamero.corpus.document import Document
from llamero.corpus.encode import encoded
from llamero.corpus.held_out import is_held_out
from llamero.corpus.texts import SEPARATOR, documents, text_files
from llamero.errors import SettingError
from llamero.formats.jsontext import read_object, write_object
from llamero.formats.lineage import lineage
from llamero.formats.lock import alone
from llamero.formats.shards import MANIFEST, Shards
from llamero.formats.shards_write import SIZE, ShardWriter
from llamero.tokenizer.load import load_tokenizer

HELD_OUT: Final = "held-out"
"""The folder, inside the set's, of the documents that are kept for measuring."""

_PLAN: Final = "plan.json"
_BATCH: Final = 1 << 20  # characters encoded at once
Tell = Callable[[str, int, int], None]
"""Told what is done ("hashing", "tokenizing"), bytes done and bytes in all."""


@dataclass(frozen=True)
class Job:
    """What becomes of which texts. `workers` changes the speed and nothing else.

    texts: files, and folders of them. tokenizer: its file or folder. field, separator: as `documents` takes them.
    hold_out: share of documents, by their text alone, that goes to a set of its own in `out`/held-out.
    shard: tokens after which a shard is full.
    """

    texts: tuple[Path, ...]
    tokenizer: Path
    out: Path
    field: str = "text"
    separator: str | None = SEPARATOR
    hold_out: float = 0.0
    shard: int = SIZE
    workers: int = 1


def tokenize(job: Job, tell: Tell = lambda _what, _done, _total: None) -> Shards:
    """Write the set, or the rest of it after a stop, and open it; a set that is there already is not made again.

    Raises SettingError where the folder holds a set, or part of one, of other texts or settings.
    """
    is_held_out("", job.hold_out)  # a wrong share is refused before anything is read
    lineage.check_free(job.out, "shards")
    files = text_files(job.texts)
    settings = {"field": job.field, "separator": job.separator, "hold_out": job.hold_out, "shard": job.shard}
    made_by = lineage.compose(
        "shards",
        parents=[*(("text", file) for file in files), ("tokenizer", job.tokenizer)],
        settings=settings,
        progress=lambda done, total: tell("hashing", done, total),
    )
    texts = [parent for parent in made_by.record.parents if parent.role == "text"]
    named = [text.name.encode("utf-8", "backslashreplace").decode() for text in texts]  # a name may be no Unicode
    hashed = [[name, text.digest.bytes, text.digest.sha256] for name, text in zip(named, texts, strict=True)]
    plan = {"texts": hashed, **settings}
    plan["tokenizer"] = load_tokenizer(job.tokenizer).fingerprint()
    with alone(job.out):  # of several processes that ask for the same set one makes it
        if not _begun(job.out, plan):
            _write(job, files, plan, tell)
            for folder in (job.out / HELD_OUT, job.out):
                if (folder / MANIFEST).exists():
                    lineage.write(folder, made_by)
    return Shards.open(job.out)


def _begun(out: Path, plan: dict[str, Any]) -> bool:
    """Whether the set is whole already; begins or goes on with it where not."""
    whole = (out / MANIFEST).exists()
    begun = (out / _PLAN).exists() and any(out.rglob("*.shard"))  # what failed before its first shard binds nobody
    if whole or begun:
        then = Shards.open(out).about.get("plan") if whole else read_object(out / _PLAN)
        _check_same(out, then if isinstance(then, dict) else {}, plan)
        return whole
    if (out / "00000.shard").exists():
        raise SettingError(f"{out} holds shards of which nobody noted what they are; delete it or name another folder")
    write_object(out / _PLAN, plan)
    return False


def _check_same(out: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    for key, value in now.items():
        if then.get(key) != value:
            difference = f"with {key} {then.get(key)!r}, now {value!r} is asked for"
            if key == "texts":
                difference = f"from other texts ({_odd(then.get(key) or [], value)})"
            raise SettingError(f"{out} holds a set made {difference}; name another folder, or delete it")


def _odd(then: list[list[Any]], now: list[list[Any]]) -> str:
    """The first text that differs, with both its hashes."""
    before = {name: digest for name, _, digest in then}
    for name, _, digest in now:
        if before.get(name) != digest:
            return f"{name}: SHA-256 {digest}, then {before.get(name) or 'not there'}"
    return "fewer, or in another order"


def _write(job: Job, files: list[Path], plan: dict[str, Any], tell: Tell) -> None:
    tokenizer = load_tokenizer(job.tokenizer)
    kind = {"vocabulary": tokenizer.vocab_size, "tokenizer": plan["tokenizer"], "size": job.shard}
    total = sum(file.stat().st_size for file in files)
    read: Counter[str] = Counter()
    (job.out / HELD_OUT / MANIFEST).unlink(missing_ok=True)  # of a writer that stopped between the two
    with ExitStack() as stack:
        writers = {False: stack.enter_context(ShardWriter(job.out, **kind))}
        if job.hold_out:
            writers[True] = stack.enter_context(ShardWriter(job.out / HELD_OUT, **kind))
        source = documents(files, field=job.field, separator=job.separator, tell=lambda n: tell("tokenizing", n, total))
        done = {side: writer.documents for side, writer in writers.items()}
        batches = _batches(source, done, job.hold_out, read)
        for sides, batch in encoded(batches, job.tokenizer, job.workers):
            for side, ids in zip(sides, batch, strict=True):
                writers[side].add(ids)
        if not read.total():
            raise SettingError(f"{', '.join(map(str, job.texts))}: there are no documents in it")
        about = {"plan": plan, "documents": [read[str(file)] for file in files]}
        for side in (True, False):  # the set is whole when its own manifest is there, so that comes last
            if side in writers and not writers[side].empty:
                writers[side].finish(about)
    if not (job.out / MANIFEST).exists():
        raise SettingError(f"all documents are held out of {job.out}; hold out a smaller share than {job.hold_out}")
    (job.out / _PLAN).unlink(missing_ok=True)


def _batches(
    source: Iterable[Document], done: Mapping[bool, int], share: float, read: Counter[str]
) -> Iterator[tuple[list[bool], list[str]]]:
    """About a million characters at once: whether each text is held out, and the texts.

    done: how many documents of either side are written already and are left out. read: counts each file's documents.
    """
    left, texts, sides, size = dict(done), [], [], 0
    for document in source:
        read[document.source] += 1
        side = share > 0 and is_held_out(document.text, share)
        if left[side]:
            left[side] -= 1
            continue
        texts.append(document.text)
        sides.append(side)
        size += len(document.text)
        if size >= _BATCH:
            yield sides, texts
            texts, sides, size = [], [], 0
    if texts:
        yield sides, texts
