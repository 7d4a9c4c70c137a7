"""A module's source as bytecode that any machine's Python of the same version loads, and that says nothing of this one.

Bytes depend on the source alone: two engines of the same versions are equal, and their bundles share what is unpacked.
"""

from __future__ import annotations

import importlib.util
import marshal
from pathlib import Path
from types import CodeType
from typing import Final

_HEADER: Final = 16  # bytes: magic, flags, and what a cache of bytecode knows of its source
_PLAIN: Final = 2  # the version of marshal that does not depend on who else holds an object


def bytecode(path: Path, name: str) -> bytes:
    """The contents of a .pyc file. name: the path that tracebacks show.

    Raises SyntaxError for a source that this Python does not read.
    """
    code = _cached(path) or compile(path.read_bytes(), name, "exec", dont_inherit=True, optimize=0)
    return importlib.util.MAGIC_NUMBER + bytes(_HEADER - 4) + _marshalled(_renamed(code, name))


def _marshalled(code: CodeType) -> bytes:
    try:
        return marshal.dumps(code, _PLAIN)
    except ValueError:  # newer Pythons have constants that only newer versions hold
        return marshal.dumps(code)


def _cached(path: Path) -> CodeType | None:
    """What Python keeps beside the source, if it is of the source as it stands: compiling takes ten times as long."""
    try:
        raw = Path(importlib.util.cache_from_source(path)).read_bytes()
        source = path.stat()
    except OSError:
        return None
    stamp = int(source.st_mtime).to_bytes(8, "little")[:4] + (source.st_size & 0xFFFF_FFFF).to_bytes(4, "little")
    if raw[:16] != importlib.util.MAGIC_NUMBER + bytes(4) + stamp:
        return None
    code = marshal.loads(raw[_HEADER:])
    return code if isinstance(code, CodeType) else None


def _renamed(code: CodeType, name: str) -> CodeType:
    inner = tuple(_renamed(one, name) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=name, co_consts=inner)
