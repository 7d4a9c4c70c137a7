"""The installed distributions that an engine needs, found from their own metadata, with their files and licences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from llamero.errors import DeviceError

ROOTS: Final = ("fastapi", "jinja2", "llguidance", "numpy", "prompt_toolkit", "rich", "uvicorn")
"""What llamero needs to run, chat and serve; all it depends on but huggingface_hub, which fetches models."""

_NOT_NEEDED: Final = frozenset({"markdown-it-py", "mdurl", "pygments"})
"""Of rich: only for documents and sources in colour, of which we show none."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LICENCE: Final = re.compile(r"(.*/)?(licen[cs]es?|copying|notice|authors)[^/]*|.*/licen[cs]es/.*", re.IGNORECASE)


@dataclass(frozen=True)
class Package:
    """A distribution. files: (path below the folder of packages, where it lies here). home: that folder here."""

    name: str
    version: str
    licence: str
    home: Path
    files: tuple[tuple[str, Path], ...]

    def licence_text(self) -> str:
        """All texts about its licence that it was installed with."""
        texts = [path for name, path in self.files if ".dist-info/" in name and _LICENCE.fullmatch(name)]
        return "\n\n".join(path.read_text("utf-8", "replace") for path in texts)


def find_packages() -> list[Package]:
    """Every distribution that the roots need, in the order of names. Raises DeviceError where a root is missing."""
    waiting, found = list(ROOTS), dict[str, Package]()
    while waiting:
        name = _normal(waiting.pop())
        if name in found or name in _NOT_NEEDED:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name in map(_normal, ROOTS):
                raise DeviceError(f"this installation lacks {name}; run `pip install llamero` again") from None
            continue  # needed by other systems or versions only
        found[name] = _package(distribution)
        waiting += _needs(distribution)
    return [found[name] for name in sorted(found)]


def _needs(distribution: metadata.Distribution) -> Iterator[str]:
    for line in distribution.requires or ():
        name = _NAME.match(line)
        if name and "extra ==" not in line:
            yield name[0]


def _package(distribution: metadata.Distribution) -> Package:
    about = distribution.metadata
    home = Path(str(distribution.locate_file("")))
    listed = [str(file) for file in distribution.files or ()]
    if not listed:
        raise DeviceError(f"{about['Name']} does not say which files are its own; install it with pip")
    files = tuple((name, home / name) for name in sorted(listed) if not name.startswith(("../", "/")))
    licence = about["License-Expression"] or _first_line(about["License"]) or _classified(about) or "see its text"
    return Package(about["Name"], about["Version"], licence, home, files)


def _first_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[0][:80] if lines else ""


def _classified(about: metadata.PackageMetadata) -> str:
    found = [value for value in about.get_all("Classifier") or () if value.startswith("License ::")]
    return ", ".join(value.rpartition(" :: ")[2] for value in found)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
