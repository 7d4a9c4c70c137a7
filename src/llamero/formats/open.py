"""Opening a model's weights, whatever format they are in: the bytes decide, not the name."""

from __future__ import annotations

from pathlib import Path

from llamero.errors import FormatError, ModelNotFound, UnsupportedError
from llamero.formats.bundle import Bundle
from llamero.formats.gguf import GGUF
from llamero.formats.huggingface import HuggingFace
from llamero.formats.llama2c import Llama2c, is_llama2c
from llamero.formats.meta import Meta
from llamero.formats.tensor import Reader

_FORMATS = "llamero reads GGUF files, Hugging Face folders, Meta folders and llama2.c .bin files"
_SIDE_FILES = ("config.json", "params.json", "model.safetensors.index.json", "generation_config.json")


def open_model_file(path: str | Path) -> Reader:
    """Open a GGUF file, a llama2.c one or a bundle, a folder of Hugging Face's or Meta's, or a weights file inside one.

    Raises ModelNotFound when nothing is there or a part is missing, FormatError for a broken file, UnsupportedError
    for one that is something else; the message says what to do.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise ModelNotFound(f"{path} is not there; give a GGUF file or a folder of Hugging Face or Meta weights")
    if path.name in _SIDE_FILES:
        return _open_folder(path.parent)
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] in (b"GGUF", b"FUGG"):
        return GGUF.open(path)
    if head[:4] == b"\x7fELF":
        return Bundle.open(path).model()
    if head[:4] == b"PK\x03\x04" or head[:2] == b"\x80\x02":
        return _open_pickled(path)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return _open_safetensors(path)
    if head and is_llama2c(head, path.stat().st_size):
        return Llama2c.open(path)
    raise _unknown(path, head)


def _open_folder(folder: Path) -> Reader:
    if (folder / "config.json").is_file():
        return HuggingFace.open(folder)
    if (folder / "params.json").is_file():
        return Meta.open(folder)
    files = sorted(folder.glob("*.gguf"))
    if files:
        raise ModelNotFound(f"{folder} is a folder; name the file in it: {', '.join(file.name for file in files[:8])}")
    raise ModelNotFound(f"{folder} has neither config.json (Hugging Face) nor params.json (Meta); {_FORMATS}")


def _open_pickled(path: Path) -> Reader:
    if (path.parent / "config.json").is_file():
        return HuggingFace.open(path.parent)  # which says what to do if these pickles are all there is
    if (path.parent / "params.json").is_file():
        return Meta.open(path.parent)
    raise UnsupportedError(
        f"{path} is a torch checkpoint without the params.json that describes it; put Meta's params.json beside it, "
        "or convert it to safetensors"
    )


def _open_safetensors(path: Path) -> Reader:
    if not (path.parent / "config.json").is_file():
        raise ModelNotFound(f"{path} needs the model's config.json beside it; fetch the whole folder")
    if (path.parent / "model.safetensors.index.json").is_file():
        return HuggingFace.open(path.parent)  # a shard stands for all
    return HuggingFace.open(path.parent, path)


def _unknown(path: Path, head: bytes) -> FormatError:
    start = head.lstrip()[:64].lower()
    if not head:
        return FormatError(f"{path} is empty; fetch it again")
    if start.startswith(b"version https://git-lfs"):
        return FormatError(f"{path} is a git-lfs pointer, not the file itself; run `git lfs pull` in its repository")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return FormatError(
            f"{path} is a web page, not a model; the download got an error or login page, fetch it again"
        )
    if start.startswith((b"ggjt", b"tjgg", b"ggml", b"lmgg", b"fmgg", b"ggmf", b"algg", b"ggla")):
        return UnsupportedError(f"{path} is in a GGML format from before GGUF; fetch the model as GGUF")
    return FormatError(f"{path} begins with {head[:8]!r}, which is no format that llamero knows; {_FORMATS}")
