"""The floors of the house hold: imports go down only, and rooms on one floor are strangers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import llamero

ROOT = Path(llamero.__file__).parent
FLOOR = {
    "interfaces": 7,
    "training": 6,
    "evals": 6,
    "quantize": 6,
    "engine": 5,
    "corpus": 5,
    "model": 4,
    "tokenizer": 4,
    "ops": 3,
    "formats": 2,
    "errors": 1,
    "_native": 1,
}
NATIVE = {"ops/choosing.py", "ops/native_ops.py", "tokenizer/merges.py"}  # who may touch the extension
TORCH = {"ops/torch_ops.py", "ops/torch_cpu.py", "training/"}  # who may touch torch
ROLLOUTS = "training/"  # may use the engine, for rollouts only
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imports(file: str) -> set[str]:
    """Every module that a file imports, anywhere in it, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import on line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def rooms(file: str) -> set[str]:
    """The rooms of ours that a file imports from."""
    return {name.split(".")[1] for name in imports(file) if name.startswith("llamero.")}


@pytest.mark.parametrize("file", [file for file in FILES if "/" in file])
def test_imports_go_down(file: str) -> None:
    home = file.split("/")[0]
    if home not in FLOOR:
        pytest.skip("data only")
    for room in rooms(file) & FLOOR.keys() - {home}:
        assert FLOOR[room] < FLOOR[home], f"{file} on floor {FLOOR[home]} imports {room} on floor {FLOOR[room]}"


@pytest.mark.parametrize("file", FILES)
def test_seams(file: str) -> None:
    names = imports(file)
    if any(name.startswith("llamero._native") for name in names):
        assert file in NATIVE, f"{file} imports the native extension"
    if any(name == "torch" or name.startswith("torch.") for name in names):
        assert any(file.startswith(place) for place in TORCH), f"{file} imports torch"
    if "engine" in rooms(file):
        assert file.startswith(("interfaces/", "engine/", "evals/", ROLLOUTS)) or file == "__init__.py"
    if file.startswith("engine/") and "tokenizer" in rooms(file):
        assert file == "engine/text.py", f"{file}: only engine/text.py knows text"


@pytest.mark.parametrize("file", FILES)
def test_every_file_says_what_it_is(file: str) -> None:
    source = (ROOT / file).read_text()
    if source.strip():
        assert ast.get_docstring(ast.parse(source)), f"{file} has no module docstring"


def test_no_drawer_for_odds_and_ends() -> None:
    assert not {Path(file).name for file in FILES} & {"utils.py", "common.py", "helpers.py", "misc.py"}
