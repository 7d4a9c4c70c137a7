"""A bundle runs on its own: without Python, without an environment, in an empty root, wherever it may unpack."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llamero.formats.bundle import Bundle
from llamero.interfaces.bundle.pack import unpack

ASK = ("run", "Who are you?", "--temperature", "0", "--quiet")
NEEDS_SPACES = "needs the right to make mount spaces and roots of its own (root, or user namespaces)"


def engines(cache: Path) -> list[Path]:
    return sorted((cache / "llamero" / "engines").iterdir())


def test_it_answers_with_an_empty_environment(made: Any, tale: str) -> None:
    answer = made.start(*ASK)
    assert (answer.stdout.strip(), answer.stderr, answer.returncode) == (tale, "", 0)
    assert len(engines(made.cache)) == 1


def test_without_a_command_it_chats(made: Any, tale: str) -> None:
    answer = made.start("--temperature", "0", "--context", "256", text="Hello\nAgain\n")
    assert answer.stdout.count(tale) == 2
    assert "tokens" in answer.stderr


def test_its_settings_hold_unless_its_user_says_otherwise(made: Any) -> None:
    long = "a " * 80  # more than 128 tokens with the answer's room, fewer than the model's 256
    refused = made.start("run", long * 2, "--quiet")
    assert refused.returncode == 1
    assert "128" in refused.stderr
    assert made.start("run", long, "--quiet", "--context", "256", "--max-tokens", "1").returncode == 0


def test_what_it_says_of_itself(made: Any) -> None:
    assert made.start("--version").stdout.startswith("Chain with llamero ")
    assert "--serve" in made.start("--help").stdout
    wrong = made.start("serv")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "'serve'" in wrong.stderr
    assert json.loads(made.start("inspect", "--json").stdout)["config"]["dim"] == 288


def test_the_unpacked_engine_is_what_was_packed(made: Any) -> None:
    made.start("--version")
    bundle = Bundle.open(made.path)
    raw = b"".join(bundle.read(bundle.of("engine")[0]))
    (folder,) = engines(made.cache)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name, program, data in unpack(raw[: bundle.head.index], raw[bundle.head.index :]):
        path = files.pop(name)
        assert path.read_bytes() == data, name
        assert path.stat().st_mode & 0o777 == (0o500 if program else 0o400)
    assert not files
    assert folder.stat().st_mode & 0o777 == 0o700


@contextmanager
def serving(made: Any, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server inside, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"XDG_CACHE_HOME": str(made.cache)}
    process = subprocess.Popen(
        [made.path, "--serve", "--port", str(port), *words], env=environment, stderr=subprocess.PIPE, text=True, cwd="/"
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(4000):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            try:
                urllib.request.urlopen(f"{address}/v1/models").close()
                break
            except OSError:
                time.sleep(0.05)
        yield process, address
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_it_serves_with_nothing_but_what_is_inside(made: Any, tale: str) -> None:
    from openai import OpenAI

    with serving(made) as (process, address):
        with OpenAI(base_url=f"{address}/v1", api_key="none") as client:
            asked = [{"role": "user", "content": "Hello"}]
            answer: Any = client.chat.completions.create(model=client.models.list().data[0].id, messages=asked)
        assert answer.choices[0].message.content.strip() == tale
        with urllib.request.urlopen(f"{address}/") as page:
            assert "<html" in page.read().decode()
        maps = Path(f"/proc/{process.pid}/maps").read_text()
    (engine,) = engines(made.cache)
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if line.count(" /")}
    strange = {path for path in paths if not path.startswith((str(engine), str(made.path)))}
    assert not [path for path in strange if ".so" in path], "a library of this machine is in use"
    (weights,) = [line for line in maps.splitlines() if line.endswith(str(made.path))]
    (part,) = Bundle.open(made.path).of("model")
    start, end = (int(number, 16) for number in weights.split()[0].split("-"))
    assert int(weights.split()[2], 16) == part.at, "the weights are mapped where they lie in the bundle"
    assert end - start >= part.size


def test_several_processes_serve(made: Any, tale: str) -> None:
    with serving(made, "--replicas", "2") as (_, address):
        body = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()
        asked = urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert json.load(answer)["choices"][0]["message"]["content"].strip() == tale


def test_two_first_runs_at_once(made: Any, tmp_path: Path, tale: str) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    running = [
        subprocess.Popen([made.path, *ASK], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.communicate(timeout=200)[0].strip() for process in running] == [tale] * 2
    assert [path.name for path in engines(tmp_path)] == [Bundle.open(made.path).head.engine_digest.hex()[:32]]


def test_a_damaged_engine_is_unpacked_anew(made: Any, tmp_path: Path) -> None:
    made.unpacked_into(tmp_path)
    (engine,) = engines(tmp_path)
    (engine / "start.py").unlink()
    library = engine / "lib" / "libc.so.6"
    library.chmod(0o600)
    library.write_bytes(b"cut short")
    assert made.start("--version", XDG_CACHE_HOME=str(tmp_path)).returncode == 0
    assert [path.name for path in engines(tmp_path)] == [engine.name]
    assert (engine / "start.py").is_file()
    assert library.stat().st_size > 1_000_000


def test_a_folder_of_others_is_not_trusted(made: Any, tmp_path: Path) -> None:
    open_to_all = tmp_path / f"llamero-{os.geteuid()}"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    home = tmp_path / "home"
    home.mkdir()
    answer = made.start("--version", TMPDIR=str(tmp_path), HOME=str(home))
    assert answer.returncode == 0
    assert engines(home / ".cache")
    assert not list(open_to_all.iterdir())


def spaces(root: Path, setup: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run words in `root` as the whole file system, in a mount space of their own, after `setup`."""
    script = f'{setup} && exec {shutil.which("chroot") or "/usr/sbin/chroot"} "$0" "$@"'
    private = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    return subprocess.run(
        [*private, "/bin/sh", "-c", script, root, *words], capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture
def empty_root(made: Any, tmp_path: Path) -> Path:
    """A root with nothing but the bundle and places for /proc, /dev and /tmp. Skips where no such root can be made."""
    if not shutil.which("unshare"):
        pytest.skip(NEEDS_SPACES)
    probe = spaces(Path("/"), "mount --bind /tmp /tmp", "/bin/true")
    if probe.returncode:
        pytest.skip(f"{NEEDS_SPACES}: {probe.stderr.strip()}")
    for name in ("proc", "dev", "tmp"):
        (tmp_path / name).mkdir()
    shutil.copy(made.path, tmp_path / "hummer")
    return tmp_path


def test_it_runs_in_an_empty_root(empty_root: Path, tale: str) -> None:
    setup = f"mount --rbind /proc {empty_root}/proc && mount --rbind /dev {empty_root}/dev"
    answer = spaces(empty_root, f"{setup} && unset $(env | cut -d= -f1)", "/hummer", *ASK)
    assert (answer.stdout.strip(), answer.returncode) == (tale, 0), answer.stderr
    assert [path.name for path in (empty_root / "tmp").iterdir()] == [f"llamero-{os.geteuid()}"]


def test_without_a_place_it_says_where_it_looked(empty_root: Path) -> None:
    setup = f"mount --bind {empty_root} {empty_root} && mount -o remount,bind,ro {empty_root} && export HOME=/nowhere"
    answer = spaces(empty_root, f"{setup} && unset XDG_CACHE_HOME TMPDIR", "/hummer", "--version")
    assert answer.returncode == 1
    assert "/nowhere/.cache/llamero/engines" in answer.stderr
    assert "XDG_CACHE_HOME" in answer.stderr


def test_a_place_that_forbids_programs_is_passed_over(empty_root: Path) -> None:
    (empty_root / "safe").mkdir()
    mount = f"mount -t tmpfs -o noexec none {empty_root}/tmp && export XDG_CACHE_HOME=/tmp HOME=/safe"
    answer = spaces(empty_root, mount, "/hummer", "--version")
    assert answer.returncode == 0, answer.stderr
    assert engines(empty_root / "safe" / ".cache")


def test_a_full_disk_is_passed_over_and_left_empty(empty_root: Path) -> None:
    (empty_root / "safe").mkdir()
    mount = f"mount -t tmpfs -o size=20m none {empty_root}/tmp && export XDG_CACHE_HOME=/tmp HOME=/safe"
    answer = spaces(empty_root, mount, "/hummer", "--engines")
    assert answer.returncode == 0, answer.stderr
    assert engines(empty_root / "safe" / ".cache")
    assert "/tmp/" not in answer.stdout
    answer = spaces(empty_root, mount.replace("HOME=/safe", "HOME=/nowhere"), "/hummer", "--version")
    assert answer.returncode == 1
    assert "there is no room" in answer.stderr


def test_words_and_folders_with_spaces(made: Any, tmp_path: Path, tale: str) -> None:
    made.unpacked_into(tmp_path / "a cache")
    program = tmp_path / "my  talker'$(x)"
    shutil.copy(made.path, program)
    asked = ("run", "", "--temperature", "0", "--chat", "--system", " two  words\n")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "a cache")}
    answer = subprocess.run(
        [program, *asked], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert answer.stdout.strip() == tale, answer.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_home_of_somebody_else_is_left_alone(made: Any, tmp_path: Path) -> None:
    """As under sudo, which may keep HOME: what root wrote there its owner could change, and could not delete."""
    home, shared = tmp_path / "home", tmp_path / "shared"
    for folder in (home, shared):
        folder.mkdir()
    os.chown(home, 1234, 1234)
    assert made.start("--version", HOME=str(home), TMPDIR=str(shared)).returncode == 0
    assert not list(home.iterdir())
    assert (shared / "llamero-0" / "engines").is_dir()


def without(call: int) -> Callable[[], None]:
    """What a child does before it starts a program that is to find this call missing (a seccomp filter)."""

    def forbid() -> None:
        load, equal, answer = 0x20, 0x15, 0x06  # of classic BPF
        missing, allow = 0x0005_0000 | errno.ENOSYS, 0x7FFF_0000
        steps = [(load, 0, 0, 0), (equal, 0, 1, call), (answer, 0, 0, missing), (answer, 0, 0, allow)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
        program = struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code))
        libc = ctypes.CDLL(None)
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program):
            raise OSError("no seccomp here")

    return forbid


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls have other numbers elsewhere")
def test_calls_that_an_older_kernel_lacks(made: Any, tmp_path: Path) -> None:
    def started(call: int) -> subprocess.CompletedProcess[str]:
        environment = {"XDG_CACHE_HOME": str(tmp_path)}
        words = [made.path, "--version"]
        return subprocess.run(
            words, env=environment, preexec_fn=without(call), capture_output=True, text=True, timeout=200, check=False
        )

    statx, renameat2 = 332, 316
    answer = started(statx)
    assert answer.returncode == 1
    assert "4.11" in answer.stderr
    assert started(renameat2).returncode == 0
    assert len(engines(tmp_path)) == 1


def test_engines_are_shown_and_removed(made: Any, tmp_path: Path, llamero: Any, monkeypatch: Any) -> None:
    made.unpacked_into(tmp_path)
    (engine,) = engines(tmp_path)
    old = engine.with_name("0" * 32)
    half, busy = (engine.with_name(f".{'0' * 32}.1.{number * 16}.new") for number in "12")
    for folder in (old, half, busy):
        folder.mkdir()
        (folder / "file").write_bytes(bytes(10))
    os.utime(half, (0, 0))
    kept = made.start("--remove-engines", XDG_CACHE_HOME=str(tmp_path))
    assert re.search(f"removed {old}", kept.stdout)
    assert engines(tmp_path) == [busy, engine]
    for name in ("HOME", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert str(engine) in llamero("bundle", "--engines").stdout
    assert engines(tmp_path) == [busy, engine]
    llamero("bundle", "--remove-engines")
    assert engines(tmp_path) == [busy]
