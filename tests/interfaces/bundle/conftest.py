"""One bundle of the tiny model, made once, and ways to start it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from llamero.interfaces.bundle.make import Settings, make_bundle

START_LIMIT = 200  # seconds; a busy machine may take long, a hanging one for ever

Started = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Made:
    """A bundle, the model that went into it, and a folder for what it unpacks."""

    path: Path
    model: Path
    cache: Path

    def start(self, *words: str, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it with no environment but a cache folder, or the one given."""
        environment = environment or {"XDG_CACHE_HOME": str(self.cache)}
        return start(self.path, *words, text=text, **environment)

    def unpacked_into(self, folder: Path) -> None:
        """Give a folder what a first start would leave there."""
        self.start("--version")
        shutil.copytree(self.cache, folder, dirs_exist_ok=True)


def start(path: Path, *words: str, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path, *words], input=text, env=environment, capture_output=True, text=True, timeout=START_LIMIT, cwd="/"
    )


def native_folder() -> Path:
    native = find_spec("llamero._native")
    assert native
    assert native.origin
    return Path(native.origin).parent


@pytest.fixture(scope="session")
def launcher() -> Path:
    """The program at the front of every bundle."""
    path = native_folder() / "_launcher"
    if not path.is_file():
        pytest.skip("this installation was built without the launcher of bundles (Linux on x86-64 and aarch64 have it)")
    return path


@pytest.fixture(scope="session")
def made(launcher: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:  # noqa: ARG001
    """A bundle of `chatty.gguf` with a context of its own, never started before the session."""
    folder = tmp_path_factory.mktemp("bundle")
    model = folder / "chatty.gguf"
    os.link(models / "chatty.gguf", model)
    settings = Settings(context=128, system="You hum.")
    path = make_bundle(model, folder / "hummer", settings=settings, licences=[_text(folder)])
    cache = folder / "cache"
    cache.mkdir()
    return Made(path, model, cache)


def _text(folder: Path) -> Path:
    path = folder / "TERMS.txt"
    path.write_text("Hum softly.\n")
    return path
