"""Many models: loaded once when asked for, let go when room is needed, never while in use, and no failure stays."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import LoadError, ModelNotFound, QueueFull
from llamero.interfaces.server.catalogue import Catalogue, parse_models
from llamero.interfaces.server.counts.metrics import Metrics
from llamero.interfaces.server.library import Housekeeping, Library
from llamero.interfaces.server.opening import Opener

OPENER = Opener(threads=1)
Together = Callable[..., Library]


@pytest.fixture
def three(models: Path) -> Together:
    """A library of three models, a, b and c."""
    entries = parse_models([f"{name}={models / 'chain.gguf'}" for name in "abc"])

    def make(rooms: float | None = None, **rules: Any) -> Library:
        """rooms: for how many of the models there is memory."""
        memory = None if rooms is None else int(rooms * OPENER.size(entries[0]).nbytes)
        return Library(Catalogue(entries), OPENER, Housekeeping(memory=memory, **rules), metrics=Metrics())

    return make


def run(library: Library, work: Callable[[], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        try:
            return await work()
        finally:
            await library.close()
            assert library.loaded() == []

    return asyncio.run(whole())


def test_asked_for_by_many_at_once_it_is_loaded_once(three: Together) -> None:
    library = three()
    progress: list[tuple[int, int]] = []

    async def ask() -> object:
        async with library.use("a", lambda done, total: progress.append((done, total))) as served:
            assert served.llama.generate("Hello", max_tokens=3).text
            return served.llama

    async def work() -> None:
        found = await asyncio.gather(*(ask() for _ in range(8)))
        assert len(set(map(id, found))) == 1
        assert library.loaded() == ["a"]

    run(library, work)
    assert progress
    assert progress[-1][0] == progress[-1][1]


def test_the_one_that_was_idle_longest_goes(three: Together) -> None:
    library = three(2.5)

    async def work() -> None:
        for name, loaded in [("a", "a"), ("b", "ab"), ("a", "ab"), ("c", "ac"), ("b", "bc")]:
            async with library.use(name):
                pass
            assert sorted(library.loaded()) == sorted(loaded)
        assert sum(library.memory().values()) <= (library._rules.memory or 0)

    run(library, work)


def test_one_in_use_never_goes(three: Together) -> None:
    library = three(1.5, patience=0.2)

    async def work() -> None:
        async with library.use("a") as served:
            with pytest.raises(QueueFull, match="no memory for the model 'b'"):
                async with library.use("b"):
                    pass
            assert served.llama.generate("Hello", max_tokens=2).text
        async with library.use("b"):  # now there is room
            assert library.loaded() == ["b"]

    run(library, work)


def test_who_waits_for_room_gets_it(three: Together) -> None:
    library = three(1.5)

    async def hold(name: str, seconds: float) -> None:
        async with library.use(name):
            await asyncio.sleep(seconds)

    async def work() -> None:
        first = asyncio.create_task(hold("a", 0.2))
        await asyncio.sleep(0.1)
        await asyncio.gather(hold("b", 0.05), hold("c", 0.05))
        await first
        assert len(library.loaded()) == 1

    run(library, work)


def test_one_always_in_use_makes_room_for_one_that_waits(three: Together) -> None:
    """Without taking anything from who was let in: newcomers wait until the other had its turn."""
    library = three(1.5, turn=0.2, patience=5.0)
    used: list[str] = []

    async def hold(name: str) -> None:
        async with library.use(name) as served:
            used.append(served.name)
            await asyncio.sleep(0.15)

    async def work() -> None:
        crowd = []
        for number in range(30):  # never a moment without one that uses a
            crowd.append(asyncio.create_task(hold("b" if number == 5 else "a")))
            await asyncio.sleep(0.05)
        await asyncio.gather(*crowd)
        assert used.count("a") == 29
        assert 5 < used.index("b") < 29

    run(library, work)


def test_who_waits_in_vain_lets_the_others_in_again(three: Together) -> None:
    library = three(1.5, turn=0.05, patience=0.3)

    async def work() -> None:
        async with library.use("a"):  # for longer than anybody waits
            waiting = asyncio.create_task(_enter(library, "b"))
            await asyncio.sleep(0.15)
            newcomer = asyncio.create_task(_enter(library, "a"))
            await asyncio.sleep(0.05)
            assert not newcomer.done()
            with pytest.raises(QueueFull):
                await waiting
            await newcomer

    run(library, work)


async def _enter(library: Library, name: str) -> None:
    async with library.use(name):
        pass


def test_too_large_for_the_budget_is_said(three: Together) -> None:
    library = three(0.5)

    async def work() -> None:
        with pytest.raises(LoadError, match="GiB of memory with its cache"):
            async with library.use("a"):
                pass

    run(library, work)


def test_an_idle_model_goes_after_a_while(three: Together) -> None:
    library = three(keep_alive=0.2)

    async def work() -> None:
        for _ in range(3):  # each use begins the time anew
            async with library.use("a"):
                pass
            await asyncio.sleep(0.1)
            assert library.loaded() == ["a"]
        async with library.use("a"):
            await asyncio.sleep(0.3)  # in use: it stays
            assert library.loaded() == ["a"]
        await asyncio.sleep(0.5)
        assert library.loaded() == []
        async with library.use("a") as served:
            assert served.llama.generate("Hello", max_tokens=2).text
            engine = weakref.ref(served.llama.engine)
            del served
        for _ in range(200):
            if engine() is None:
                break
            await asyncio.sleep(0.02)
        assert engine() is None  # nobody holds on to weights and cache

    run(library, work)


def test_a_failed_load_is_heard_by_all_and_forgotten(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "late.gguf"
    whole = (models / "chain.gguf").read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    library = Library(Catalogue(parse_models([str(file)])), OPENER, metrics=Metrics())

    async def ask() -> str:
        async with library.use("late") as served:
            return served.llama.generate("Hello", max_tokens=2).text

    async def work() -> None:
        heard = await asyncio.gather(*(ask() for _ in range(4)), return_exceptions=True)
        assert all(isinstance(error, LoadError) for error in heard)
        assert str(tmp_path) not in str(heard[0])
        file.write_bytes(whole)
        assert await ask()
        with pytest.raises(ModelNotFound):
            async with library.use("none"):
                pass

    run(library, work)


def test_who_leaves_while_it_loads_does_not_stop_the_others(three: Together) -> None:
    library = three()

    async def ask() -> None:
        async with library.use("a"):
            pass

    async def work() -> None:
        first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert library.loaded() == ["a"]
        alone = asyncio.create_task(ask())
        await asyncio.sleep(0)
        alone.cancel()

    run(library, work)
