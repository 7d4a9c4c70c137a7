"""The licences of everything in a bundle: who made it, under which terms, and the texts that must go with it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import llamero
from llamero.interfaces.bundle.engine import Engine, python, standard_library

_MODEL_TEXTS = ("LICEN[CS]E*", "NOTICE*", "USE_POLICY*", "CARD.md")


@dataclass(frozen=True)
class Licence:
    """text: "" where none was found; licence then says where it may be."""

    name: str
    version: str
    licence: str
    text: str


def engine_licences(engine: Engine) -> list[Licence]:
    """llamero's, Python's, those of the packages, and of the libraries that the system lent."""
    found = [
        Licence("llamero", metadata.version("llamero"), "Apache-2.0", _our_text()),
        Licence("Python", platform.python_version(), "PSF-2.0", _python_text()),
    ]
    found += [Licence(one.name, one.version, one.licence, one.licence_text()) for one in engine.packages]
    return found + list(_system_licences({engine.libraries.loader, *engine.libraries.found.values()}))


def model_texts(path: Path) -> list[Path]:
    """Texts about the licence of a model, in the folder that is its own."""
    folder = path if path.is_dir() else path.parent
    own = path.is_dir() or len(list(folder.glob("*.gguf"))) == 1
    return sorted({file for name in _MODEL_TEXTS for file in folder.glob(name) if file.is_file()}) if own else []


def _our_text() -> str:
    beside = Path(llamero.__file__).parents[2] / "LICENSE"
    installed = [Path(str(file.locate())) for file in metadata.files("llamero") or () if file.name == "LICENSE"]
    return next((path.read_text() for path in (*installed, beside) if path.is_file()), "")


def _python_text() -> str:
    version = ".".join(platform.python_version_tuple()[:2])
    places = (standard_library() / "LICENSE.txt", Path(f"/usr/share/doc/python{version}/copyright"))
    return next((path.read_text("utf-8", "replace") for path in places if path.is_file()), "")


def _system_licences(libraries: Iterable[Path]) -> Iterator[Licence]:
    """Of shared libraries outside Python's own folder, by the Debian packages that own them."""
    owned: dict[str, list[str]] = {}
    for path in sorted(libraries):
        if not path.is_relative_to(python().parent.parent) or str(path).startswith("/usr/"):
            owned.setdefault(_owner(path), []).append(path.name)
    for owner, names in sorted(owned.items()):
        name, _, version = owner.partition(" ")
        text = Path(f"/usr/share/doc/{name.partition(':')[0]}/copyright")
        known = text.is_file()
        terms = "see its text" if known else "not found on the machine that made this; it is the system's own"
        title = name.partition(":")[0] or ", ".join(names)
        yield Licence(title, version, terms, text.read_text("utf-8", "replace") if known else "")


def _owner(path: Path) -> str:
    """The package of a file and its version, such as "libc6:amd64 2.36-9"; "" where that cannot be told."""
    if shutil.which("dpkg-query") is None:
        return ""
    for place in (str(path), str(path).removeprefix("/usr")):  # where /lib is a link, packages name either
        answer = subprocess.run(["dpkg-query", "-S", place], capture_output=True, text=True, check=False)
        package = answer.stdout.partition(": ")[0].partition(",")[0]
        if package:
            shown = ["dpkg-query", "-W", "-f", "${Package} ${Version}", package]
            return subprocess.run(shown, capture_output=True, text=True, check=False).stdout
    return ""
