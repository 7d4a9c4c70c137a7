"""How fast texts become shards and shards become batches here, and what each packing cuts and wastes.

    python bench/data.py --text stories.jsonl --tokenizer tokenizer.model --workers 1,2,4
    python bench/data.py                                   made-up text and the vocabulary of the model inside

Each figure is of one run; run it alone on the machine, and again to see how far to trust it.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import llamero
from llamero.corpus.texts import text_files
from llamero.corpus.tokenize import Job, tokenize
from llamero.formats.shards import Shards
from llamero.training.data.batches import Batches
from llamero.training.data.rows import Packing

INSIDE = Path(llamero.__file__).parent / "embedded" / "llama-stories.gguf"
PACKINGS: tuple[Packing, ...] = ("stream", "masked", "whole")
STEPS = 100


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = tuple(options.text or [made_up(folder, options.documents)])
        size = sum(file.stat().st_size for file in text_files(texts)) / 1e6
        for workers in options.workers:
            job = Job(texts, options.tokenizer, folder / f"shards-{workers}", options.field, workers=workers)
            with timed(f"tokenizing {size:.1f} MB with {workers} workers", size, "MB/s"):
                shards = tokenize(job)
        read(shards, options.context, options.sequences)


def read(shards: Shards, context: int, sequences: int) -> None:
    """Opening, hashing, batches of each packing."""
    megabytes = sum(header.file_size for header in shards.headers) / 1e6
    with timed("opening", 1, "a second"):
        shards = Shards.open(shards.folder)
    with timed(f"verifying {megabytes:.1f} MB", megabytes, "MB/s"):
        shards.verify()
    targets = shards.tokens - shards.documents
    print(f"{shards.documents} documents of {shards.tokens / shards.documents:.0f} tokens")
    for packing in PACKINGS:
        with timed(f"{packing}: rows", 1, "a second"):
            batches = Batches(shards, context=context, sequences=sequences, packing=packing)
        with timed(f"{packing}: {STEPS} batches of {sequences} x {context}", STEPS, "a second"):
            for step in range(STEPS):
                batches.at(7 * step)
        with timed(f"{packing}: names of the documents of {STEPS} batches", STEPS, "a second"):
            for step in range(STEPS):
                batches.documents(7 * step)
    left = 1 - targets / (batches.rows.count * context)  # of the last packing, whole documents
    starts = shards.borders(0, shards.tokens)
    ends = np.append(starts[1:], shards.tokens) - 1
    windows, longer = np.mean(starts // context != ends // context), np.mean(ends - starts > context)
    print(f"cut by windows {windows:.1%}, cut when packed whole {longer:.1%}; of those rows {left:.3%} is left empty")


@contextmanager
def timed(what: str, amount: float, unit: str) -> Iterator[None]:
    """Print how long the block took, and its rate."""
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    print(f"{what}: {seconds:.4f} s, {amount / seconds:,.1f} {unit}")


def made_up(folder: Path, documents: int) -> Path:
    """JSON lines of sentences without sense, of lengths as stories have them."""
    rng = random.Random(0)
    words = ["".join(rng.choices("aeioulnrst", k=rng.randint(1, 9))) for _ in range(5000)]
    path = folder / "text.jsonl"
    with path.open("w") as file:
        for _ in range(documents):
            text = " ".join(rng.choices(words, k=int(rng.lognormvariate(5.5, 0.6)) + 1))
            file.write(json.dumps({"text": text}) + "\n")
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", help="texts to tokenize")
    parser.add_argument("--field", default="text", help="the text's field in .jsonl files")
    parser.add_argument("--documents", type=int, default=20_000, help="how many are made up without --text")
    parser.add_argument("--tokenizer", type=Path, default=INSIDE)
    parser.add_argument("--workers", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2])
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--sequences", type=int, default=16)
    return parser.parse_args()


if __name__ == "__main__":
    main()
