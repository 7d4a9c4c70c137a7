"""Finding a model by what its user calls it: a path, a pulled name, or nothing at all (the embedded model)."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from llamero.errors import ModelNotFound, nearest

_HUB_NAME = re.compile(r"((https?://)?(huggingface|hf)\.co/)?[\w][\w.-]*/[\w.-]+(:[^/].*)?")
_ENDINGS = (".gguf", ".bin", ".safetensors")


def find_model(model: str | Path | None) -> Path:
    """The file or folder that a model's name stands for. Raises ModelNotFound with what may have been meant.

    model: a GGUF, .bin or .safetensors file; a folder of Hugging Face or Meta weights; a name that was pulled, such as
    "owner/name" or "owner/name:Q4_K_M"; or None, for the model that comes with the package.
    """
    if model is None:
        return _embedded()
    path = Path(model).expanduser()
    if path.exists():
        return path
    name = str(model)
    if isinstance(model, str) and _HUB_NAME.fullmatch(name):
        from llamero.interfaces.hub import find_pulled  # only here: huggingface_hub takes a while to import

        return find_pulled(name)
    raise ModelNotFound(f"there is no model {name!r}: {_advice(path)}")


def _embedded() -> Path:
    folder = files("llamero") / "embedded"
    items = folder.iterdir() if folder.is_dir() else ()
    found = sorted(Path(str(item)) for item in items if item.name.endswith(".gguf"))
    if not found:
        raise ModelNotFound(
            "this installation comes without an embedded model; name one: a GGUF file, a folder of weights, or "
            "what `llamero pull` fetched"
        )
    return found[0]


def _advice(path: Path) -> str:
    """What the user may have meant: models in that folder, or here."""
    for folder in dict.fromkeys((path.parent, Path())):
        models = _models_in(folder)
        if models:
            where = "here" if folder == Path() else f"in {folder}"
            return f"{nearest(path.name, models)} (the models {where})"
    return "give the path of a GGUF file or a folder of weights, or fetch one with `llamero pull owner/name`"


def _models_in(folder: Path) -> list[str]:
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        return [
            entry.name
            for entry in entries
            if entry.suffix in _ENDINGS or (entry / "config.json").is_file() or (entry / "params.json").is_file()
        ][:50]
    except OSError:
        return []
