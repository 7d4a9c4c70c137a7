"""A job of bench/serve.py done by the scheduler alone: its file in, the streams as JSON out."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serve_load import Heard, Outcome

from llamero import Llama
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Choice, Sampling
from llamero.engine.schedule import Limits, Scheduler


class Ear:
    """A listener that notes the time of each token."""

    def __init__(self) -> None:
        self.heard = Heard(time.perf_counter())

    def read(self, done: int, total: int) -> None:
        """Nothing to note."""

    def chose(self, _: Choice) -> None:
        """A token."""
        self.heard.pieces.append(time.perf_counter())

    def ended(self, error: Exception | None) -> None:
        """A run is over."""
        if error:
            raise error


def work(job: dict[str, Any]) -> Outcome:
    """All prompts at once."""
    prompts: list[str] = job["prompts"]
    room = job["context"] * max(4, len(prompts))
    llama = Llama(job["model"], context=job["context"], room=room, threads=job["threads"])
    limits = Limits() if job["target"] is None else Limits(step_seconds=job["target"])
    scheduler = Scheduler(llama.engine, limits)
    llama.generate("Hello", max_tokens=2)
    todo: list[tuple[Run, Ear]] = []
    for text in prompts:
        request = Request(
            prompt=tuple(llama.tokenize(text)), sampling=Sampling(temperature=0), max_tokens=job["answer"]
        )
        todo.append((llama.engine.plan(request), Ear()))
    before = time.process_time()
    for run, ear in todo:
        ear.heard.asked = time.perf_counter()
        scheduler.submit(run, ear)
    while scheduler.step():
        pass
    for run, ear in todo:
        ear.heard.prompt_tokens, ear.heard.cached_tokens = run.prompt_tokens, run.cached_tokens
        ear.heard.tokens = len(run.answer)
    return Outcome([ear.heard for _, ear in todo], time.process_time() - before)


if __name__ == "__main__":
    print(json.dumps(asdict(work(json.loads(Path(sys.argv[1]).read_text())))))
