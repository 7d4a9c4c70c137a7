"""Pulling from a hub: a server of the test's own speaks the few routes that huggingface_hub asks for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamero import Llama
from llamero.errors import LlameroError, ModelNotFound
from llamero.interfaces.hub import find_pulled, plan_pull, pull

COMMIT = "c0ffee" * 6 + "abcd"
BIG = np.random.default_rng(0).bytes(22 << 20)  # huggingface_hub writes 10 MB at a time


class Hub(ThreadingHTTPServer):
    """A hub with the repositories given: {name: {file: bytes}}. `log` holds (method, path, Range header).

    cut: close the connection after so many bytes of the next large file. deaf: answer ranges with the whole file.
    """

    def __init__(self, repos: dict[str, dict[str, bytes]]) -> None:
        self.repos = repos
        self.log: list[tuple[str, str, str | None]] = []
        self.cut: int | None = None
        self.deaf = False
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def fetched(self) -> list[tuple[str, str | None]]:
        """Files whose bytes were sent, with the range asked for."""
        sent = [(path, asked) for method, path, asked in self.log if method == "GET" and "/resolve/" in path]
        return [(path.rpartition("/")[2], asked) for path, asked in sent]


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        self.server.log.append((self.command, self.path, self.headers["Range"]))
        about = re.fullmatch(r"/api/models/([^/]+/[^/?]+)(/revision/[^?]+)?(\?.*)?", self.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path)
        if about and about[1] in self.server.repos:
            self._about(self.server.repos[about[1]], about[1])
        elif file and self.server.repos.get(file[1], {}).get(file[2]) is not None:
            self._file(self.server.repos[file[1]][file[2]])
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound" if file else "RepoNotFound"})

    def _about(self, files: dict[str, bytes], name: str) -> None:
        siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
        self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode(), {})

    def _file(self, data: bytes) -> None:
        sha = hashlib.sha256(data).hexdigest()
        marks = {"ETag": f'"{sha}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if asked and not self.server.deaf:
            start = int(asked[1])
            marks["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._send(206, data[start:], marks)
        else:
            self._send(200, data, marks)

    def _send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.cut is not None and len(body) > self.server.cut:
            self.wfile.write(body[: self.server.cut])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body)


@pytest.fixture
def hub(models: Path) -> Iterator[Hub]:
    chain = (models / "chain.gguf").read_bytes()
    server = Hub(
        {
            "herd/chain-GGUF": {"README.md": b"hello", "chain-Q8_0.gguf": b"not this", "chain-Q4_K_M.gguf": chain},
            "herd/big": {"big.gguf": BIG},
            "herd/folder": {"config.json": b"{}", "model.safetensors": BIG, "tokenizer.json": b"{}", "x.bin": b"no"},
            "herd/empty": {"README.md": b"hello"},
        }
    )
    yield server
    server.shutdown()
    server.server_close()


def fetch(hub: Hub, name: str, cache: Path) -> Path:
    return pull(plan_pull(name, endpoint=hub.url), endpoint=hub.url, cache=cache)


def test_a_pulled_model_runs(hub: Hub, tmp_path: Path, tale: str) -> None:
    plan = plan_pull("herd/chain-GGUF", endpoint=hub.url)
    assert (list(plan.files), plan.choice, plan.commit) == (["chain-Q4_K_M.gguf"], "chain-Q4_K_M.gguf", COMMIT)
    path = pull(plan, endpoint=hub.url, cache=tmp_path)
    with Llama(path) as llama:
        assert llama.generate("", temperature=0).text == tale
    assert find_pulled("herd/chain-GGUF", cache=tmp_path) == path
    assert find_pulled("herd/chain-GGUF:Q4_K_M", cache=tmp_path) == path
    with pytest.raises(ModelNotFound, match="llamero pull herd/chain-GGUF:Q8_0"):
        find_pulled("herd/chain-GGUF:Q8_0", cache=tmp_path)


def test_what_is_here_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    first = fetch(hub, "herd/big", tmp_path)
    assert first.read_bytes() == BIG
    assert fetch(hub, "herd/big", tmp_path) == first
    assert hub.fetched == [("big.gguf", None)]


def test_a_folder_comes_with_all_it_needs_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    folder = fetch(hub, "herd/folder", tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert find_pulled("herd/folder", cache=tmp_path) == folder


def test_an_interrupted_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    """The program is gone in between: only the part on the disk is left."""
    plan = plan_pull("herd/big", endpoint=hub.url)

    def interrupt(_: str, done: int, _total: int) -> None:
        if done > 2 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(plan, endpoint=hub.url, cache=tmp_path, progress=interrupt)
    (part,) = tmp_path.rglob("*.llamero-part")
    size = part.stat().st_size
    assert 2 << 20 < size < len(BIG)
    seen: list[int] = []
    path = pull(plan, endpoint=hub.url, cache=tmp_path, progress=lambda _, done, __: seen.append(done))
    assert path.read_bytes() == BIG
    assert hub.fetched == [("big.gguf", None), ("big.gguf", f"bytes={size}-")]
    assert seen[-1] == len(BIG)
    assert not list(tmp_path.rglob("*.llamero-part"))


@pytest.mark.filterwarnings("ignore")
def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut = 13 << 20
    assert fetch(hub, "herd/big", tmp_path).read_bytes() == BIG
    first, second = hub.fetched
    assert first == ("big.gguf", None)
    assert second[1] is not None


def test_a_server_without_ranges_starts_over(hub: Hub, tmp_path: Path) -> None:
    blobs = tmp_path / "models--herd--big" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(BIG).hexdigest()}.llamero-part").write_bytes(BIG[: 1 << 20])
    hub.deaf = True
    assert fetch(hub, "herd/big", tmp_path).read_bytes() == BIG


@pytest.mark.parametrize("left", [b"x" * (1 << 20), b"x" * (23 << 20)])
def test_what_arrives_damaged_is_refused_and_not_kept(hub: Hub, tmp_path: Path, left: bytes) -> None:
    blobs = tmp_path / "models--herd--big" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(BIG).hexdigest()}.llamero-part").write_bytes(left)
    if len(left) < len(BIG):
        with pytest.raises(LlameroError, match="damaged"):
            fetch(hub, "herd/big", tmp_path)
        assert not list(tmp_path.rglob("*.llamero-part"))
    assert fetch(hub, "herd/big", tmp_path).read_bytes() == BIG


def test_what_is_not_there_is_said_plainly(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="shows no model 'herd/none'"):
        plan_pull("herd/none", endpoint=hub.url)
    with pytest.raises(ModelNotFound, match="neither GGUF nor safetensors"):
        plan_pull("herd/empty", endpoint=hub.url)
    with pytest.raises(ModelNotFound, match=r"no 'Q2_K' \(did you mean"):
        plan_pull("herd/chain-GGUF:Q2_K", endpoint=hub.url)
    with pytest.raises(ModelNotFound, match="owner/name"):
        plan_pull("herd/bad name!", endpoint=hub.url)
    with pytest.raises(ModelNotFound, match=r"neither a file here nor a pulled model; try: llamero pull herd/none"):
        find_pulled("herd/none", cache=tmp_path)


def test_a_hub_that_is_down() -> None:
    with pytest.raises(ModelNotFound, match=r"could not be fetched from http://127.0.0.1:9: "):
        plan_pull("herd/big", endpoint="http://127.0.0.1:9")


def test_the_command(hub: Hub, tmp_path: Path, llamero_process: Any, tale: str) -> None:
    """As a user does it: pull by name, then run by the same name with the hub gone."""
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
    done = llamero_process("pull", "herd/chain-GGUF", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/chain-Q4_K_M.gguf")
    assert "herd/chain-GGUF (chain-Q4_K_M.gguf): 1 files" in done.stderr
    env["HF_ENDPOINT"] = "http://127.0.0.1:9"
    done = llamero_process("run", "-m", "herd/chain-GGUF", "", "--temperature", "0", env=env, text="")
    assert (done.returncode, done.stdout) == (0, f"{tale}\n"), done.stderr
    done = llamero_process("run", "-m", "herd/none", "a", env=env)
    assert done.returncode == 1
    wanted = "'herd/none' is neither a file here nor a pulled model; try: llamero pull herd/none"
    assert done.stderr == f"llamero run: {wanted}\n"
