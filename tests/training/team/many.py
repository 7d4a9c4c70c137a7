"""Trains in several gloo processes for test_crew.py and leaves what came out in a folder: python many.py WHAT FOLDER.

Processes are forked, so that torch is loaded once, and go through all layouts together.
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch

from llamero.model.config import Config
from llamero.ops.protocol import Span
from llamero.training.checkpoints.checkpoint import newest_whole
from llamero.training.data.batch import Batch
from llamero.training.data.batches import Batches
from llamero.training.data.tokens import Tokens
from llamero.training.loop import Run, Settings
from llamero.training.optimizer import Constants
from llamero.training.parameters import drawn
from llamero.training.pretrain import NextToken
from llamero.training.schedule import Cosine
from llamero.training.team.crew import Crew, join
from llamero.training.team.layout import Layout
from llamero.training.team.sharded import place
from llamero.training.team.team import Alone

CONFIG = Config(dim=32, layers=2, heads=4, kv_heads=2, head_dim=8, ffn_dim=46, vocab=97, context=16)
TIED = Config(dim=24, layers=1, heads=4, kv_heads=4, head_dim=8, ffn_dim=48, vocab=97, context=16, tied=True)
LAYOUTS = ["replicate=4", "shard=4", "replicate=2,shard=2", "shard=2,tensor=2", "replicate=2,tensor=2", "context=4"]
LAYOUTS += ["shard=2,context=2", "context=2,tensor=2"]
VARIED = {  # how far a variant of the model or the batches is tried
    "tied,": ["shard=2,tensor=2", "shard=2,context=2"],
    "documents,": ["shard=2,context=2", "context=2,tensor=2"],
    "recompute,": ["shard=2,tensor=2", "context=2,tensor=2"],
    "bfloats,": ["shard=2,tensor=2", "shard=2,context=2"],
    "muon,": ["shard=2,tensor=2"],
}


class Documents(Batches):
    """Batches whose rows hold documents of unequal lengths, and tokens that do not count."""

    def at(self, step):
        batch = super().at(step)
        spans = [Span(0, length) for _ in batch.inputs for length in (3, 9, 4)]
        counts = (batch.targets % 5 > 0).astype(np.float32)
        return Batch(batch.inputs, batch.targets, counts, tuple(spans))


def run_of(team, config=CONFIG, folder=None, source=Batches, dtype=None, recompute=0, kind="adamw"):
    tokens = Tokens.of(np.random.default_rng(3).integers(0, config.vocab, 3000).astype(np.uint16))
    batches = source(tokens, context=config.context, sequences=8)
    placed = place(team, config, lambda name: drawn(config, 0, name), dtype)
    objective = NextToken(placed.ops, placed.weights, rows=40, recompute=recompute, stream=placed.stream)
    settings = Settings(Cosine(3e-3, 8, 2), Constants(kind=kind, epsilon=1e-8), micro=4)
    return Run(placed.parameters, objective, batches, settings, folder, team=team)


def trained(team, until=2, **options):
    """Losses and norms of some steps, the first step's gradients, the last parameters, a loss without gradients."""
    run = run_of(team, **options)
    batch = run.batches.at(0)
    for part in team.share(batch).split(4):
        run.objective.accumulate(part, float(batch.counts.sum()))
    found = {f"gradient.{name}": team.whole(value.grad) for name, value in run.parameters.items()}
    run.optimizer.zero_grad()
    reports = []
    run.train(reports.append, until=until)
    found |= {name: team.whole(value) for name, value in run.parameters.items()}
    found["losses"] = torch.tensor([[report.loss, report.norm] for report in reports], dtype=torch.float64)
    parts = team.share(run.batches.at(7)).split(4)
    found["measured"] = torch.tensor([team.total(sum(run.objective.measure(part) for part in parts))])
    return {name: value.detach().numpy() for name, value in found.items()}


def layouts(crew_of, out):
    """Every layout, and some variants, beside one process alone."""
    variants = {
        "": {},
        "tied,": {"config": TIED},
        "documents,": {"source": Documents},
        "recompute,": {"recompute": 1},
        "bfloats,": {"dtype": torch.bfloat16},
        "muon,": {"kind": "muon"},
    }
    for variant, options in variants.items():
        if not torch.distributed.get_rank():
            np.savez(out / f"{variant}alone.npz", **trained(Alone(), **options))
        for layout in VARIED.get(variant, LAYOUTS):
            found = trained(crew := crew_of(layout), **options)
            if crew.lead:
                np.savez(out / f"{variant}{layout}.npz", **found)


def checkpoints(crew_of, out):
    """One run that changes its layout at every other step, and one that is stopped in between and not changed."""
    losses = {}
    for until, layout in enumerate([None, "shard=4", "shard=2,tensor=2", "context=4", "replicate=2,tensor=2", None], 1):
        team = Alone() if layout is None else crew_of(layout)
        if layout is None and torch.distributed.get_rank():
            crew_of("shard=4").barrier()
            continue
        run = run_of(team, folder=out / "changing")
        run.train(lambda report: losses.update({report.step: report.loss}), until=until)
        if layout is None:
            crew_of("shard=4").barrier()
    (out / f"changing-{torch.distributed.get_rank()}.json").write_text(json.dumps(losses))
    for name, stops in (("straight", [4]), ("stopped", [1, 3, 4])):
        crew, reports = crew_of("shard=2,tensor=2"), []
        for stop in stops:
            run_of(crew, folder=out / name).train(reports.append, until=stop)
        if crew.lead:
            (out / f"{name}.json").write_text(json.dumps({each.step: (each.loss, each.norm) for each in reports}))
            np.savez(out / f"{name}.npz", **newest_whole(out / name / "checkpoints").weights())


def broken(crew_of, out):
    """What goes wrong on one process is raised on all: a file that cannot be written, and one that has changed."""
    crew = crew_of("shard=4")
    run = run_of(crew, folder=out)
    run.train(until=1)
    file = out / "checkpoints/step-00000001/shard-00003-model-00001-of-00001.safetensors"
    if crew.lead:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    crew.barrier()
    try:
        run_of(crew, folder=out)
    except ValueError as error:
        (out / f"changed-{crew.process}").write_text(str(error))


def rounds(team, out):
    """Train for ever; process 0 notes each step."""
    run = run_of(team)
    while True:
        run.advance()
        run.step = 0
        if team.lead:
            (out / "step").write_text("one")


def fork(process, processes, port, work):
    child = os.fork()
    if child:
        return child
    os.environ |= {"RANK": str(process), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": str(port), "LOCAL_RANK": str(process)}
    torch.set_num_threads(1)
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def everything(out):
    with join(Layout(shard=4)) as team:
        assert isinstance(team, Crew)

        def crew_of(layout):
            return Crew(Layout.parse(layout), "cpu", team.heart)

        layouts(crew_of, out)
        checkpoints(crew_of, out)
        (out / "broken").mkdir(exist_ok=True)
        crew_of("shard=4").barrier()
        broken(crew_of, out / "broken")


def until_killed(out):
    with join(Layout(shard=4), patience=3) as team:
        rounds(team, out)


def until_one_fails(_):
    with join(Layout(shard=4), patience=3) as team:
        run = run_of(team)
        run.advance()
        if team.process == 1:
            raise MemoryError("the graphics card is full")
        run.advance()


def port_of():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main(what, out):
    warnings.simplefilter("error")
    processes, port = 4, port_of()
    work = {"everything": everything, "killed": until_killed, "failed": until_one_fails}[what]
    began = time.monotonic()
    children = [fork(process, processes, port, lambda: work(out)) for process in range(processes)]
    if what == "killed":
        while not (out / "step").exists() and time.monotonic() < began + 60:
            time.sleep(0.05)
        os.kill(children[2], signal.SIGKILL)
        began = time.monotonic()
    for child in children:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), round(time.monotonic() - began, 1), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
