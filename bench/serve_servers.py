"""Who serves: how each server is started, and how its streams are read."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx
from serve_load import Heard, Job, Outcome

START = 120.0  # seconds that a server may take to load
END = 600.0  # seconds that all streams may take


class Contestant(Protocol):
    """One server."""

    name: str

    def run(self, job: Job) -> Outcome:
        """Start it, do the job, stop it."""
        ...


class _Server:
    """A server in a process of its own that speaks OpenAI's API."""

    name: str
    extra: dict[str, Any] = {}  # noqa: RUF012 (a peer's own fields of a request)

    def command(self, job: Job, port: int) -> list[str]:
        """How to start it."""
        raise NotImplementedError

    def run(self, job: Job) -> Outcome:
        """See `Contestant`."""
        port = _free_port()
        with _process(self.command(job, port)) as process:
            _wait(process, f"http://127.0.0.1:{port}")
            asyncio.run(_ask_all(port, ["Hello"], 2, self.extra))  # what happens once is not measured
            before = _cpu(process.pid)
            streams = asyncio.run(_ask_all(port, job.prompts, job.answer, self.extra))
            return Outcome(streams, _cpu(process.pid) - before)


class Ours(_Server):
    """`llamero serve`."""

    name = "llamero"

    def command(self, job: Job, port: int) -> list[str]:
        start = "import sys; from llamero.interfaces.cli.main import main; sys.exit(main())"
        words = ["serve", "-m", f"bench={job.model}", "--port", str(port), "--threads", str(job.threads)]
        room = job.context * max(4, len(job.prompts))
        return [sys.executable, "-c", start, *words, "--context", str(job.context), "--room", str(room)]


class LlamaCppPython(_Server):
    """llama-cpp-python's server: one answer at a time."""

    name = "llama_cpp.server"

    @staticmethod
    def installed() -> bool:
        """Whether it is."""
        return importlib.util.find_spec("llama_cpp") is not None

    def command(self, job: Job, port: int) -> list[str]:
        words = {
            "model": job.model,
            "port": port,
            "n_ctx": job.context,
            "n_threads": job.threads,
            "n_threads_batch": job.threads,
            "interrupt_requests": False,
            "flash_attn": True,
            "verbose": False,
        }
        options = [f"--{name}={value}" for name, value in words.items()]
        return [sys.executable, "-m", "llama_cpp.server", *options]


class LlamaServer(_Server):
    """llama.cpp's server, with a slot and a cache for each user."""

    name = "llama-server"

    def __init__(self, program: Path) -> None:
        self._program = program

    def command(self, job: Job, port: int) -> list[str]:
        users = len(job.prompts)
        words = ["-m", str(job.model), "--port", str(port), "-t", str(job.threads), "-np", str(users)]
        return [str(self._program), *words, "-c", str(job.context * users), "--no-kv-unified", "--no-webui"]


class Bare:
    """Our scheduler without a server, in a process of its own."""

    name = "bare"

    def run(self, job: Job) -> Outcome:
        """See `Contestant`."""
        with tempfile.TemporaryDirectory() as folder:
            task = Path(folder, "job.json")
            words = {"model": str(job.model), "prompts": job.prompts, "answer": job.answer, "threads": job.threads}
            task.write_text(json.dumps(words | {"context": job.context, "target": job.target}))
            script = Path(__file__).with_name("serve_bare.py")
            done = subprocess.run(
                [sys.executable, str(script), str(task)], capture_output=True, timeout=END, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr.decode())
        told = json.loads(done.stdout)
        return Outcome([Heard(**stream) for stream in told["streams"]], told["cpu"])


async def _ask_all(port: int, prompts: Sequence[str], tokens: int, extra: dict[str, Any]) -> list[Heard]:
    async with asyncio.timeout(END):
        return list(await asyncio.gather(*(_ask(port, text, tokens, extra) for text in prompts)))


async def _ask(port: int, prompt: str, tokens: int, extra: dict[str, Any]) -> Heard:
    """One stream. It is only noted when which bytes came, and read afterwards: the server needs the processor."""
    body = {
        "model": "bench",
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    data = json.dumps(body | extra).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    heard = Heard(time.perf_counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    told = await reader.readuntil(b"\r\n\r\n")
    said, times, ends = bytearray(), list[float](), list[int]()
    while part := await reader.read(1 << 16):
        times.append(time.perf_counter())
        said += part
        ends.append(len(said))
    writer.close()
    if b" 200 " not in told.splitlines()[0]:
        raise SystemExit(f"the server refused: {(told + said).decode()[:500]}")
    for end, line in _lines(bytes(said), chunked=b"transfer-encoding: chunked" in told.lower()):
        _note(heard, json.loads(line), times[bisect_left(ends, end)])
    heard.tokens = heard.tokens or len(heard.pieces)  # a server without usage in streams sends a piece for each token
    return heard


def _note(heard: Heard, told: dict[str, Any], now: float) -> None:
    if any(choice.get("text") for choice in told.get("choices", [])):
        heard.pieces.append(now)
    if usage := told.get("usage"):
        heard.prompt_tokens, heard.tokens = usage["prompt_tokens"], usage["completion_tokens"]
        heard.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)


def _lines(said: bytes, *, chunked: bool) -> Iterator[tuple[int, bytes]]:
    """The JSON of each event, and where the bytes end that bring it."""
    start, held = 0, b""
    while start < len(said):
        end = len(said)
        if chunked:
            size, _, _ = said[start : start + 20].partition(b"\r\n")
            start += len(size) + 2
            end = start + int(size, 16)
        *lines, held = (held + said[start:end]).split(b"\n")
        yield from ((end, line[6:]) for line in lines if line.startswith(b"data: {"))
        start = end + 2 * chunked


def _cpu(pid: int) -> float:
    """Processor seconds that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        except SystemExit:
            log.seek(0)
            sys.stderr.write(log.read()[-3000:].decode(errors="replace"))
            raise
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/v1/models", timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise SystemExit(f"the server did not answer within {START:.0f} s")
