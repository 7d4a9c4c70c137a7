"""The random-weight files that are measured: made once, kept in a folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import random_model

from llamero.formats.blocks import TYPES

SHAPES = {
    "15m": "stories-15m",
    "110m": "stories-110m",
    "1b": "llama-3.2-1b",
    "3b": "llama-3.2-3b",
    "8b": "llama-3.1-8b",
}
MIXES = [*(name for name, kind in TYPES.items() if kind.values > 1), "F16", "BF16", "Q4_K_M"]
FOLDER = Path(tempfile.gettempdir()) / "llamero-bench"


def model_file(folder: Path, shape: str, mix: str, *, readable: bool = False) -> tuple[Path, bool]:
    """The file of a shape and mixture, and whether it was only now made. readable: it writes ASCII letters."""
    path = folder.resolve() / f"{shape}-{mix}{'-readable' if readable else ''}.gguf"
    if path.exists():
        return path, False
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        random_model.write(SHAPES[shape], mix, str(partial), readable=readable)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path, True
