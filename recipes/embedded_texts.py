"""Fetch further TinyStories for the embedded model: copies of parts of it that public repositories hold.

    python recipes/embedded_texts.py texts/more
    python recipes/embedded.py --data ../shared/data/text_en --more texts/more --out runs/embedded

Every file is taken at one commit and refused where its hash differs; what was fetched is kept beside the texts, so the
same command goes on. The text is Eldan and Li's (2023, CDLA-Sharing 1.0); whoever has their whole set may as well put
it into the folder: any `*.txt` with `<|endoftext|>` between the stories is read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

END = "<|endoftext|>"


@dataclass(frozen=True)
class Source:
    """One file of a public repository."""

    repository: str
    commit: str
    path: str
    sha256: str

    def read(self, kept: Path) -> bytes:
        """The file's bytes, from `kept` where an earlier call left it. Raises SystemExit where its hash differs."""
        place = kept / self.sha256[:16]
        data = place.read_bytes() if place.exists() else self._fetched()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            what = f"{place}: delete it" if place.exists() else "what came is not the file"
            raise SystemExit(f"{self.repository}/{self.path} at {self.commit[:12]}: another hash than expected; {what}")
        if not place.exists():
            place.write_bytes(data)
        return data

    def _fetched(self) -> bytes:
        url = f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"
        print(f"fetching {url}", flush=True)
        with urllib.request.urlopen(url, timeout=60) as answer:
            return bytes(answer.read())


GPT2 = Source(
    "stanford-cs336/assignment1-basics",
    "25a8a49f6460c83a30416d42348f2ef11d1dd185",
    "tests/fixtures/gpt2_vocab.json",
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
)
BYTES = Source(
    "Aditya584cloud/small-scale-gpt2-type-from-scratch",
    "74604cdcc197aade9d18f70840ec30f4249c4d74",
    "data/tinystories_bpe_1024.json",
    "d6f5c2bb4a7fc342253b4e17dd6f375ae46db75af97b6eb213c02425193eb933",
)
Reader = Callable[[bytes, Path], list[str]]


def listed(data: bytes, _: Path) -> list[str]:
    """Stories of a JSON object's list `texts`."""
    return list(json.loads(data)["texts"])


def divided(data: bytes, _: Path) -> list[str]:
    """Stories with a NUL between them; the file ends within one."""
    return data.decode("utf-8", "ignore").split("\0")[:-1]


def gpt2(data: bytes, kept: Path) -> list[str]:
    """Stories as GPT-2's ids, 16 bits each; the file begins and ends within one."""
    letters = byte_letters()
    pieces = {number: token for token, number in json.loads(GPT2.read(kept)).items()}
    table = [pieces[number].encode() if pieces[number] == END else bytes(letters[c] for c in pieces[number])
             for number in range(len(pieces))]  # fmt: skip
    return decoded(data, table).split(END)[1:-1]


def byte_pairs(data: bytes, kept: Path) -> list[str]:
    """Stories as ids of the repository's own byte pairs, one newline between them and two between paragraphs."""
    vocabulary = json.loads(BYTES.read(kept))["vocab"]
    text = decoded(data, [bytes.fromhex(vocabulary[str(number)]) for number in range(len(vocabulary))])
    pieces = re.split(r"(?<!\n)\n(?!\n)", text)[1:-1]
    return [piece for piece in pieces if "\n\n" in piece or re.match("Once|One day|There", piece)]


def decoded(data: bytes, table: list[bytes]) -> str:
    return b"".join(table[number] for number in np.frombuffer(data, "<u2")).decode("utf-8", "replace")


def byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in GPT-2's vocabulary: itself where it prints, else one from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


SOURCES: tuple[tuple[Source, Reader], ...] = (
    (
        Source(
            "maxme1/tiny-stories",
            "037e886f4ee35dca2c469b0da3638ebf2255e4cb",
            "frontend/src/assets/tiny-stories.json",
            "1e7cef311b36b8215a30a18442c6a0bc0b29eeb6b94bdae3d8f6183c78455978",
        ),
        listed,
    ),
    (
        Source(
            "czhou578/train-gpt2",
            "b213c75be938fad8009e40e65a3765af2b5987c8",
            "data/tinystories/val.bin",
            "e5b7891429408a3252fe2b68c7fa95b108a8714147e52fb3988492f9c4235da1",
        ),
        gpt2,
    ),
    (
        Source(
            "czhou578/train-gpt2",
            "b213c75be938fad8009e40e65a3765af2b5987c8",
            "data/tinystories/test.bin",
            "ec36f18cc6dddecdf21cee2f8e159e274a68bf136de8321a37a1afad347ce78b",
        ),
        gpt2,
    ),
    (
        Source(
            "Aditya584cloud/small-scale-gpt2-type-from-scratch",
            "74604cdcc197aade9d18f70840ec30f4249c4d74",
            "data/tinystories_val.bin",
            "d7e0535bb31f4ff7c9246ecc42cf3581daebbc16a3de399aa682819ff813a67e",
        ),
        byte_pairs,
    ),
    (
        Source(
            "JasonYao3/Transform-LM",
            "96a3b1aa22a070431bf6a2c12206263ad96586c0",
            "tinystories_train.bin",
            "ad9713c117cac843269f21870cccadeea19304dff3ae6be2089f9f2f571b2409",
        ),
        gpt2,
    ),
    (
        Source(
            "JasonYao3/Transform-LM",
            "96a3b1aa22a070431bf6a2c12206263ad96586c0",
            "tinystories_val.bin",
            "136cfc124f68074b9120d6ee24aac05f25da5947487eb35a03ec9780251b773f",
        ),
        gpt2,
    ),
    (
        Source(
            "ekg/elman",
            "1fc3afc801474b43a7e108cedf73919d73a73ec6",
            "data/tinystories_test.txt",
            "a8f457b472e6ad2eea7743e09d66573f58adcb0fb55c8394b71bb1c6785e7369",
        ),
        divided,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the texts go")
    folder = parser.parse_args().folder
    kept = folder / "fetched"
    kept.mkdir(parents=True, exist_ok=True)
    for number, (source, reader) in enumerate(SOURCES):
        told = reader(source.read(kept), kept)
        place = folder / f"{number}-{source.repository.replace('/', '-')}.txt"
        place.write_text(f"\n{END}\n".join(story.strip() for story in told), encoding="utf-8")
        print(f"{place}: {len(told)} stories")


if __name__ == "__main__":
    main()
