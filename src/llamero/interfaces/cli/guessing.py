"""The options about guessing ahead, which `run`, `chat` and `serve` share."""

from __future__ import annotations

import argparse


def add_guessing_options(group: argparse._ArgumentGroup) -> None:
    """--draft and --speculate."""
    group.add_argument("--draft", metavar="MODEL", help="a smaller model of the same vocabulary guesses ahead")
    group.add_argument(
        "--speculate", default="off", choices=("off", "ngram"), help="guess ahead what stood in the text before (off)"
    )
