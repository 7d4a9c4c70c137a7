"""Models by name: fetching them from a Hugging Face hub, and finding again what was fetched.

Files land in the hub's own shared cache, in its own layout, so other programs see them too. A file's bytes are fetched
so that an interrupted download goes on where it stopped, even days later, and are checked against the SHA-256 that
the hub gives. Which files make a model is decided in hub_files.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, file_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from llamero.errors import LlameroError, ModelNotFound
from llamero.interfaces.hub_files import choose, parse_name

_BLOCK = 1 << 20
_LARGE = 1 << 24  # bytes; smaller files are left to huggingface_hub, which starts them over

DownloadProgress = Callable[[str, int, int], None]
"""Called with a file's name, how many of its bytes are here, and how many there are in all."""


@dataclass(frozen=True)
class Plan:
    """What a pull will fetch: files with their sizes in bytes."""

    repo: str
    commit: str
    files: dict[str, int]
    choice: str | None  # the quantisation or file picked, when there were several

    @property
    def nbytes(self) -> int:
        return sum(self.files.values())


def plan_pull(name: str, *, endpoint: str | None = None) -> Plan:
    """Ask the hub which files "owner/name", "owner/name:Q4_K_M" or "owner/name:file.gguf" stands for.

    Raises ModelNotFound when there is no such model or the hub cannot be reached.
    """
    repo, variant = parse_name(name)
    with _explained(repo, endpoint):
        info = huggingface_hub.HfApi(endpoint=endpoint).model_info(repo, files_metadata=True)
    sizes = {item.rfilename: int(item.size or 0) for item in info.siblings or []}
    chosen = choose(repo, sizes, variant)
    return Plan(repo, str(info.sha), {file: sizes[file] for file in chosen.files}, chosen.label)


def pull(
    plan: Plan, *, endpoint: str | None = None, cache: Path | None = None, progress: DownloadProgress | None = None
) -> Path:
    """Fetch the planned files, or what is missing of them -> the GGUF file, or the folder of weights.

    cache: None is the hub's usual place. Raises ModelNotFound when a file cannot be fetched, LlameroError when one
    arrives damaged.
    """
    folder = cache or Path(constants.HF_HUB_CACHE)
    paths = []
    for file, size in plan.files.items():
        with _explained(plan.repo, endpoint):
            if size >= _LARGE:
                _fetch_blob(plan, file, folder, endpoint, progress)
            elif progress:
                progress(file, size, size)
            paths.append(Path(_link(plan, file, folder, endpoint)))
    return _model_path(paths)


def find_pulled(name: str, *, cache: Path | None = None) -> Path:
    """The GGUF file or folder that a pulled name stands for, without asking anyone. Raises ModelNotFound."""
    repo, variant = parse_name(name)
    try:
        folder = Path(huggingface_hub.snapshot_download(repo, cache_dir=cache, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise ModelNotFound(f"{name!r} is neither a file here nor a pulled model; try: llamero pull {name}") from error
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    try:
        chosen = choose(repo, sizes, variant)
    except ModelNotFound as error:
        raise ModelNotFound(f"{error}, of what was pulled; fetch it: llamero pull {name}") from error
    return _model_path([folder / file for file in chosen.files])


def _model_path(paths: list[Path]) -> Path:
    """What to open: the first GGUF part, or the folder."""
    gguf = sorted(path for path in paths if path.suffix == ".gguf")
    if gguf:
        return gguf[0]
    return next(path for path in paths if path.name in ("config.json", "params.json")).parent


def _link(plan: Plan, file: str, folder: Path, endpoint: str | None) -> str:
    return huggingface_hub.hf_hub_download(plan.repo, file, cache_dir=folder, endpoint=endpoint, tqdm_class=_Silent)


def _fetch_blob(plan: Plan, file: str, folder: Path, endpoint: str | None, progress: DownloadProgress | None) -> None:
    """Put the file's bytes where the hub's cache keeps them, going on where an earlier try stopped."""
    url = huggingface_hub.hf_hub_url(plan.repo, file, revision=plan.commit, endpoint=endpoint)
    about = huggingface_hub.get_hf_file_metadata(url, endpoint=endpoint)
    blobs = folder / file_download.repo_folder_name(repo_id=plan.repo, repo_type="model") / "blobs"
    if about.etag is None or about.size is None or (blobs / about.etag).exists():
        return
    blobs.mkdir(parents=True, exist_ok=True)
    part = blobs / f"{about.etag}.llamero-part"
    headers = build_hf_headers(library_name="llamero")
    if about.location.split("/")[2] != url.split("/")[2]:
        headers.pop("authorization", None)  # another host must not see the user's token
    with part.open("ab") as out:
        counted = _Counted(out, about.size, lambda done: progress(file, done, about.size or 0) if progress else None)
        counted.read_again(part)
        file_download.http_get(
            about.location,
            counted,  # type: ignore[arg-type]
            resume_size=counted.size,
            headers=headers,
            expected_size=about.size,
            tqdm_class=_Silent,
        )
    if len(about.etag) == 64 and counted.digest.hexdigest() != about.etag:
        part.unlink()
        raise LlameroError(f"{plan.repo}/{file} arrived damaged (its SHA-256 is not {about.etag}); pull it again")
    part.rename(blobs / about.etag)


class _Counted:
    """A file that is written to, hashing and counting what passes."""

    def __init__(self, out: Any, total: int, tell: Callable[[int], None]) -> None:
        self._out, self._tell, self._total = out, tell, total
        self.size, self.digest = 0, hashlib.sha256()

    def read_again(self, part: Path) -> None:
        """Count what an earlier try left; a file longer than it should be is started over."""
        if part.stat().st_size > self._total:
            self.truncate(0)
        with part.open("rb") as old:
            while block := old.read(_BLOCK):
                self._pass(block)

    def write(self, block: bytes) -> int:
        self._out.write(block)
        self._pass(block)
        return len(block)

    def truncate(self, size: int | None = None) -> int:
        """The server sends everything again."""
        assert not size, "a download only ever starts over from the beginning"
        self._out.truncate(0)
        self.size, self.digest = 0, hashlib.sha256()
        return 0

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self._out.seek(place, whence))

    def tell(self) -> int:
        return self.size

    def _pass(self, block: bytes) -> None:
        self.digest.update(block)
        self.size += len(block)
        self._tell(self.size)


class _Silent:
    """Stands where huggingface_hub would show its own progress bar: llamero shows one."""

    def __init__(self, **_: object) -> None:
        pass

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, _: float | None = 1) -> None:
        pass


@contextmanager
def _explained(repo: str, endpoint: str | None) -> Iterator[None]:
    """Say what went wrong at the hub, and what to do."""
    try:
        yield
    except GatedRepoError as error:
        raise ModelNotFound(
            f"{repo} asks for its licence to be accepted: do so at the hub, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(f"the hub shows no model {repo!r}; if it is private, `hf auth login`") from error
    except EntryNotFoundError as error:
        raise ModelNotFound(f"a file of {repo} is no longer at the hub; pull it again ({error})") from error
    except HFValidationError as error:
        raise ModelNotFound(f"{repo!r} is not a name as the hub has them (owner/name)") from error
    except LlameroError:
        raise
    except Exception as error:  # the hub's client lets through whatever its own HTTP client raises
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hub = endpoint or constants.ENDPOINT
        raise ModelNotFound(
            f"{repo} could not be fetched from {hub}: {first}; what arrived is kept, pull it again"
        ) from error
