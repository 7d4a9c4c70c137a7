"""The public surface: what __all__ promises can be imported, quickly, and without torch."""

from __future__ import annotations

import subprocess
import sys

import llamero


def test_every_promised_name_is_there() -> None:
    for name in llamero.__all__:
        assert getattr(llamero, name) is not None, name


def test_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(llamero, "Lama")


def test_import_is_light() -> None:
    """Neither `import llamero` nor `from llamero import Llama` drags in torch, a template engine or a terminal kit."""
    code = (
        "import sys, llamero; llamero.Llama; "
        "print([m for m in ('torch', 'jinja2', 'rich', 'prompt_toolkit', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
