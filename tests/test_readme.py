"""The README is true: its set-up commands are CI's, its files exist, and its ten lines run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_ci_runs_the_readmes_test_command() -> None:
    commands = re.findall(r"^    (pip install .*)$", README, flags=re.MULTILINE)
    assert len(commands) == 2, "exactly two set-up commands"
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_named_files_exist() -> None:
    tours = README.split("### Three tours")[1].split("##")[0]
    for name in re.findall(r"`([\w/]+\.\w+)`", tours):
        places = (ROOT / name, ROOT / "src" / "llamero" / name)
        assert any(place.exists() for place in places), name
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_every_room_is_on_the_tree() -> None:
    tree = README.split("## The house")[1].split("Imports go down")[0]
    rooms = {path.name for path in (ROOT / "src" / "llamero").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(re.findall(r"^      (\w+)/", tree, flags=re.MULTILINE))


def test_ten_lines_run() -> None:
    code = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert code is not None
    exec(compile(code[1], "README.md", "exec"), {})
