"""The files in deploy/: `llamero serve` understands their commands, and the tools of their kind accept them."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llamero.interfaces.cli import serve

DEPLOY = Path(__file__).parents[1] / "deploy"
pytestmark = pytest.mark.skipif(not DEPLOY.is_dir(), reason="deploy/ is not part of the package")


def commands(text: str) -> list[list[str]]:
    """The words after `llamero serve` in a file, lines joined."""
    joined = re.sub(r"\s*\\\n[#\s]*", " ", text)
    listed = re.sub(r'", "', " ", joined)
    return [shlex.split(found.rstrip('"] ')) for found in re.findall(r'llamero serve ([^"\n]+)', listed)]


@pytest.mark.parametrize("name", ["llamero.service", "Dockerfile", "nginx.conf"])
def test_commands_are_understood(name: str) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    serve.configure(parser)
    found = commands((DEPLOY / name).read_text())
    assert found
    for words in found:
        parser.parse_args(words)


@pytest.mark.peers
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_sound(tmp_path: Path) -> None:
    unit = tmp_path / "llamero.service"
    unit.write_text((DEPLOY / "llamero.service").read_text().replace("/usr/local/bin/llamero", sys.executable))
    told = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True
    ).stdout
    level = re.search(r"exposure level for llamero.service: ([\d.]+)", rated)
    assert level
    assert float(level[1]) <= 1.5


@pytest.mark.peers
@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_the_dockerfile_is_sound() -> None:
    told = subprocess.run(["hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "")
