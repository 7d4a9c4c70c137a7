"""What an engine is made of: the Python that runs this, its standard library, llamero and what it needs, all with the
shared libraries below them, down to the C library and its loader.

Everything is taken from the running installation; nothing is fetched. torch, tests, and what serves to build programs
stay out.
"""

from __future__ import annotations

import struct
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import llamero
from llamero.errors import DeviceError
from llamero.interfaces.bundle.bytecode import bytecode
from llamero.interfaces.bundle.elf import is_elf, trimmed
from llamero.interfaces.bundle.libraries import Libraries, find_libraries
from llamero.interfaces.bundle.pack import EngineFile
from llamero.interfaces.bundle.packages import Package, find_packages

_NOT_OURS: Final = ("corpus/", "embedded/", "evals/", "quantize/", "training/", "ops/torch_", "_launcher")
"""Of llamero: what is for making models, and the model inside."""

_NOT_STANDARD: Final = (
    *("antigravity", "curses", "dbm", "distutils", "ensurepip", "idlelib", "lib-dynload", "lib2to3", "msilib"),
    *("pydoc_data", "site-packages", "dist-packages", "sqlite3", "test", "this", "tkinter", "turtle", "turtledemo"),
    *("venv", "wsgiref", "xmlrpc"),
)
_NOT_EXTENSIONS: Final = (
    *("_ctypes_test", "_curses", "_dbm", "_gdbm", "_sqlite3", "_test", "_tkinter", "_xxsubinterpreters", "_xxtest"),
    *("nis", "ossaudiodev", "readline", "xxlimited"),
)
_NOT_FOLDERS: Final = frozenset({"tests", "__pycache__", "f2py", "distutils", "include"})
_NOT_FILES: Final = (".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pyc", ".pyi", ".pyx", ".typed", ".lib", ".f", ".f90")
_NOT_METADATA: Final = ("RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json", "entry_points.txt")

_START: Final = """\
# Begins what is inside a bundle. Arguments: the path of the bundle, and its user's words.
import sys

sys.path.append(__file__.rpartition("/")[0] + "/packages")
if __name__ == "__main__":
    from llamero.interfaces.bundle.inside import main

    sys.exit(main(sys.argv[1], sys.argv[2:]))
"""


@dataclass(frozen=True)
class Engine:
    """files: everything, under the paths that the launcher gives it; the rest says where it comes from."""

    files: tuple[EngineFile, ...]
    packages: tuple[Package, ...]
    libraries: Libraries


def collect() -> Engine:
    """Look a whole engine up. Raises DeviceError where this Python is none that can be moved."""
    if sys.platform != "linux" or struct.calcsize("P") != 8 or sys.byteorder != "little":
        raise DeviceError(f"bundles are made on 64-bit Linux, for Linux; this is {sys.platform}")
    packages = find_packages()
    sources = [*_standard(), *_ours(), *(file for package in packages for file in _package_files(package))]
    native = [path for _, path in sources if path.name.endswith(".so") or ".so." in path.name]
    libraries = find_libraries(python(), native, [package.home for package in packages])
    files = [
        EngineFile("bin/python3", partial(_contents, python()), program=True),
        EngineFile("lib/loader", partial(_contents, libraries.loader), program=True),
        *(EngineFile(f"lib/{name}", partial(_contents, path)) for name, path in libraries.found.items()),
        *(_as_file(name, path) for name, path in sources),
        EngineFile("start.py", _START.encode),
        EngineFile(f"packages/llamero-{version('llamero')}.dist-info/METADATA", _about_ours),
    ]
    return Engine(tuple(files), tuple(packages), libraries)


def python() -> Path:
    """The interpreter itself, not a virtual environment's link to it."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def standard_library() -> Path:
    """The folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def _about_ours() -> bytes:
    return f"Metadata-Version: 2.1\nName: llamero\nVersion: {version('llamero')}\n".encode()


def _as_file(name: str, path: Path) -> EngineFile:
    if path.suffix == ".py":
        return EngineFile(name + "c", partial(bytecode, path, name))
    return EngineFile(name, partial(_contents, path))


def _contents(path: Path) -> bytes:
    data = path.read_bytes()
    return trimmed(data) if is_elf(data) else data


def _standard() -> Iterator[tuple[str, Path]]:
    """Modules and extensions that come with Python, under the names at which it looks for them."""
    folder = standard_library()
    below = f"{sys.platlibdir}/python{sys.version_info.major}.{sys.version_info.minor}"
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        first = parts[0].removesuffix(".py")
        if first in _NOT_STANDARD or first.startswith("config-") or _NOT_FOLDERS & set(parts[:-1]):
            continue
        yield f"{below}/{'/'.join(parts)}", path
    native = Path(sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})) / "lib-dynload"
    for path in sorted(native.glob("*.so")):
        if not path.name.startswith(_NOT_EXTENSIONS):
            yield f"{below}/lib-dynload/{path.name}", path


def _ours() -> Iterator[tuple[str, Path]]:
    home = Path(llamero.__file__).parent
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if path.is_file() and not name.startswith(_NOT_OURS) and _is_wanted(name) and path.suffix != ".so":
            yield f"packages/llamero/{name}", path
    native = find_spec("llamero._native")
    if native is None or native.origin is None:
        raise DeviceError("llamero's native core is not built; run `pip install .` first")
    yield f"packages/llamero/{Path(native.origin).name}", Path(native.origin)


def _package_files(package: Package) -> Iterator[tuple[str, Path]]:
    for name, path in package.files:
        if _is_wanted(name) and path.is_file():
            yield f"packages/{name}", path


def _is_wanted(name: str) -> bool:
    *folders, last = name.split("/")
    if folders and folders[0].endswith(".dist-info"):
        return last not in _NOT_METADATA and len(folders) == 1
    return not _NOT_FOLDERS & set(folders) and not last.endswith(_NOT_FILES)
