"""Half an hour of a server among people who behave badly: nothing may leak, no stream be lost or crossed, no 500 told.

    python bench/soak.py
    python bench/soak.py --minutes 1 --connections 40

It starts `llamero serve --deterministic` with the small model and visits it from many connections at once. Some
visitors ask, whole or streamed, and hold the answer against the one that the same model gives offline; some read
slowly; some leave in the middle; some send what is too large, too long, malformed, or never finished. Told at the end:
the visits, the statuses, the wrong answers, and the server's memory on the way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from llamero import Llama

_LENGTHS = (4, 16, 48)  # tokens of an answer
_HEROES = ("dog", "cat", "bear", "frog", "boy named Tom", "girl named Lily", "little red boat", "brave mouse")
_WISHES = ("Tell me a story about a {}.", "Please tell me of a {}!", "Who is the {}?", "I know a {}. Do you?")
_GROWTH = 0.02  # of memory, between the first and the last part of the run
_HTTP_ERRORS = (httpx.TransportError, OSError)

Prompt = tuple[str, int]
Visit = Callable[["Soak", random.Random], Awaitable[None]]


@dataclass
class Soak:
    """One run: where the server is, what it must answer, and what was seen."""

    url: str
    twins: dict[Prompt, str]
    begun: float = field(default_factory=time.monotonic)
    visits: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def object(self, complaint: str) -> None:
        """Note something that is wrong, and when."""
        self.wrong.append(f"after {time.monotonic() - self.begun:.0f} s: {complaint}")

    def saw(self, response: httpx.Response, expected: set[int]) -> bool:
        """Count a status; whether it is 200. A full queue is always right."""
        self.statuses[response.status_code] += 1
        if response.status_code not in expected | {429}:
            self.object(f"{response.request.url.path}: {response.status_code}, expected {sorted(expected)}")
        return response.status_code == 200

    def compare(self, prompt: Prompt, text: str) -> None:
        """Hold an answer against its offline twin."""
        if text != self.twins[prompt]:
            self.object(f"{prompt}: {text!r} instead of {self.twins[prompt]!r}")


def body(prompt: Prompt, **more: object) -> dict[str, object]:
    """A chat request for the likeliest answer."""
    messages = [{"role": "user", "content": prompt[0]}]
    return {"messages": messages, "max_tokens": prompt[1], "temperature": 0, **more}


async def asks(soak: Soak, rng: random.Random) -> None:
    """The whole answer at once."""
    prompt = rng.choice(list(soak.twins))
    async with httpx.AsyncClient(timeout=600) as client:
        response = await client.post(f"{soak.url}/chat/completions", json=body(prompt))
        if soak.saw(response, {200}):
            soak.compare(prompt, response.json()["choices"][0]["message"]["content"])


async def streams(soak: Soak, rng: random.Random, pause: float = 0.0, most: int | None = None) -> None:
    """The answer in pieces: all of them, or the first few. pause: seconds before each piece is read."""
    prompt = rng.choice(list(soak.twins))
    async with (
        httpx.AsyncClient(timeout=600) as client,
        client.stream("POST", f"{soak.url}/chat/completions", json=body(prompt, stream=True)) as response,
    ):
        if not soak.saw(response, {200}):
            return
        pieces: list[str] = []
        async for piece in content(response):
            pieces.append(piece)
            if most is not None and len(pieces) >= most:
                return
            await asyncio.sleep(pause)
        soak.compare(prompt, "".join(pieces))


async def content(response: httpx.Response) -> AsyncIterator[str]:
    """The pieces of a stream. Raises ValueError when it ends before its end."""
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            return
        if line.startswith("data: "):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                yield choice["delta"].get("content") or ""
    raise ValueError("a stream ended without [DONE]")


async def reads_slowly(soak: Soak, rng: random.Random) -> None:
    """A reader who dawdles."""
    await streams(soak, rng, pause=rng.uniform(0.05, 0.3))


async def leaves(soak: Soak, rng: random.Random) -> None:
    """A reader who goes away in the middle."""
    await streams(soak, rng, most=rng.randint(1, 6))


async def gives_up(soak: Soak, rng: random.Random) -> None:
    """Somebody who does not wait for the whole answer."""
    prompt = rng.choice(list(soak.twins))
    async with httpx.AsyncClient(timeout=rng.uniform(0.01, 0.5)) as client:
        with contextlib.suppress(httpx.TimeoutException):
            soak.saw(await client.post(f"{soak.url}/chat/completions", json=body(prompt)), {200})


async def sends_too_much(soak: Soak, rng: random.Random) -> None:
    """A body beyond the limit, or a prompt beyond the context."""
    async with httpx.AsyncClient(timeout=600) as client:
        if rng.random() < 0.3:
            with contextlib.suppress(httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):  # it hangs up
                response = await client.post(f"{soak.url}/chat/completions", content=b" " * (9 << 20))
                soak.saw(response, {400, 413})
        else:
            words = " ".join(rng.choices(_HEROES, k=3000))
            soak.saw(await client.post(f"{soak.url}/chat/completions", json=body((words, 8))), {400})


async def sends_nonsense(soak: Soak, rng: random.Random) -> None:
    """What is no request."""
    good = json.dumps(body(rng.choice(list(soak.twins)))).encode()
    cut = rng.randrange(len(good))
    bad = rng.choice(
        [
            good[:cut],
            rng.randbytes(200),
            b"[" * 5000,
            json.dumps(body(("hello", -1))).encode(),
            json.dumps(body(("hello", 8), temperature="hot")).encode(),
            json.dumps(body(("hello", 8), model="../../etc/passwd")).encode(),
            json.dumps(body(("hello", 8), n=10**9)).encode(),
            json.dumps(body(("hello", 8), grammar="((((")).encode(),
        ]
    )
    async with httpx.AsyncClient(timeout=600) as client:
        headers = {"Content-Type": "application/json"}
        response = await client.post(f"{soak.url}/chat/completions", content=bad, headers=headers)
        soak.saw(response, {400, 404})


async def never_finishes(soak: Soak, rng: random.Random) -> None:
    """Half a request, and silence."""
    host, port = soak.url.split("/")[2].split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{"[: rng.randint(1, 88)]
    )
    await writer.drain()
    await asyncio.sleep(rng.uniform(0, 2))
    writer.close()


VISITS: dict[str, tuple[Visit, int]] = {
    "asks": (asks, 6),
    "streams": (streams, 8),
    "reads slowly": (reads_slowly, 2),
    "leaves": (leaves, 4),
    "gives up": (gives_up, 2),
    "sends too much": (sends_too_much, 1),
    "sends nonsense": (sends_nonsense, 3),
    "never finishes": (never_finishes, 1),
}


async def visitor(soak: Soak, seed: int, until: float) -> None:
    """One visit after another."""
    rng = random.Random(seed)
    names, weights = list(VISITS), [weight for _, weight in VISITS.values()]
    while time.monotonic() < until:
        name = rng.choices(names, weights)[0]
        try:
            await VISITS[name][0](soak, rng)
        except (*_HTTP_ERRORS, ValueError) as error:
            soak.object(f"{name}: {type(error).__name__}: {error}")
        soak.visits[name] += 1


async def watch(process: subprocess.Popen[str], until: float, memory: list[float]) -> None:
    """Note the server's resident memory, in MB, every second."""
    begun = time.monotonic()
    while time.monotonic() < until and process.poll() is None:
        memory.append(resident(process.pid))
        told = f"{(time.monotonic() - begun) / 60:5.1f} min, {memory[-1]:.1f} MB"
        print(told, end="\r", file=sys.stderr, flush=True)
        await asyncio.sleep(1)


def resident(pid: int) -> float:
    """Resident memory in MB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1e3 if found else 0.0


@contextmanager
def serving(model: str | None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and its address."""
    command = [sys.executable, "-m", "llamero", "serve", "--port", "0", "--deterministic"]
    command += ["--log-level", "error", *(["-m", model] if model else [])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        for line in process.stderr:
            if found := re.search(r"http://\S+/v1", line):
                break
        else:
            raise SystemExit("the server did not start")
        yield process, found[0]
    finally:
        process.terminate()
        process.wait(60)


def twins(model: str | None) -> dict[Prompt, str]:
    """Every prompt's answer, offline."""
    with Llama(model, deterministic=True) as llama:
        told = [wish.format(hero) for wish in _WISHES for hero in _HEROES]
        return {
            (text, length): llama.chat([{"role": "user", "content": text}], max_tokens=length, temperature=0).text
            for text in told
            for length in _LENGTHS
        }


async def soak(url: str, process: subprocess.Popen[str], options: argparse.Namespace) -> tuple[Soak, list[float]]:
    """All visitors at once, for as long as was asked."""
    found, memory = Soak(url, twins(options.model)), list[float]()
    until = time.monotonic() + options.minutes * 60
    crowd = [visitor(found, options.seed + i, until) for i in range(options.connections)]
    await asyncio.gather(watch(process, until, memory), *crowd)
    return found, memory


def report(found: Soak, memory: list[float]) -> bool:
    """Print what was seen; whether all of it is as it should be."""
    fifth = max(1, len(memory) // 5)
    before, after = sum(memory[fifth : 2 * fifth]) / fifth, sum(memory[-fifth:]) / fifth
    growth = after / before - 1 if before else 0.0
    print("visits  ", dict(found.visits))
    print("statuses", dict(sorted(found.statuses.items())))
    print(f"memory   {before:.1f} MB in the second fifth of the time, {after:.1f} in the last: {growth:+.2%}")
    print("wrong   ", len(found.wrong), *found.wrong[:10], sep="\n  " if found.wrong else " ")
    return not found.wrong and growth <= _GROWTH


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", help="a small model (the one inside)")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with serving(options.model) as (process, url):
        found, memory = asyncio.run(soak(url, process, options))
        alive = process.poll() is None
    return 0 if report(found, memory) and alive else 1


if __name__ == "__main__":
    raise SystemExit(main())
