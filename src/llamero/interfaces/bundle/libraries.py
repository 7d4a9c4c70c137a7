"""Which shared libraries a program and its extensions need, as the loader of this machine finds them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from llamero.errors import DeviceError
from llamero.interfaces.bundle.elf import loader_of

# Opened by the C library itself when it is in need: to end a thread, to look up a host's name.
_OPENED_LATER: Final = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")


@dataclass(frozen=True)
class Libraries:
    """loader: that which starts the program. found: the others by the names they are asked for."""

    loader: Path
    found: dict[str, Path]


def find_libraries(program: Path, extensions: Sequence[Path], homes: Iterable[Path]) -> Libraries:
    """What `program` and `extensions` need and do not bring themselves.

    homes: folders that come along whole; what lies in one is found from there. Raises DeviceError for a program that
    cannot be moved, or a library that is not here.
    """
    asked = loader_of(program.read_bytes())
    if asked is None or "ld-linux" not in asked:
        raise DeviceError(f"{program} is not linked with glibc ({asked or 'static'}); make bundles with another Python")
    loader, found = Path(asked).resolve(), dict[str, Path]()
    inside = [str(home.resolve()) + "/" for home in homes]
    with ThreadPoolExecutor(4) as pool:
        for listed in pool.map(partial(_needed, loader), (program, *extensions)):
            for name, path in listed.items():
                if not str(path).startswith(tuple(inside)):
                    found[name] = path
    for folder in {path.parent for path in list(found.values())}:
        for name in _OPENED_LATER:
            if name not in found and (folder / name).is_file():
                found[name] = (folder / name).resolve()
    return Libraries(loader, dict(sorted(found.items())))


def _needed(loader: Path, binary: Path) -> dict[str, Path]:
    """Ask the loader, which looks without running anything."""
    answer = subprocess.run([loader, "--list", binary], capture_output=True, text=True, check=False)
    found = {}
    for line in answer.stdout.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow and rest.startswith("not found"):
            raise DeviceError(f"{binary} needs {name}, which is not on this machine")
        path = Path(rest.rpartition(" (")[0])
        if arrow and path.resolve() != loader:
            found[Path(name).name] = path.resolve()
    return found
