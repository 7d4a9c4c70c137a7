"""What happens beside the steps of a run: its journal, validation, samples, and the documents of skipped batches."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from llamero.errors import WeightsError
from llamero.formats.atomic import atomic_file
from llamero.model.weights import Weights
from llamero.ops.torch_ops import TorchOps
from llamero.training.data.prepare import Prepared
from llamero.training.folder import Folder
from llamero.training.journal import Journal
from llamero.training.listener import Listener
from llamero.training.loop import Report, Run
from llamero.training.parameters import weights
from llamero.training.pretrain import NextToken
from llamero.training.samples import sample


class Observer:
    """Hears of every step after it was taken and before it is saved, so that a resumed run's journal has no gap."""

    def __init__(
        self, run: Run, objective: NextToken, prepared: Prepared, folder: Folder, journal: Journal, listener: Listener
    ) -> None:
        self.run, self.objective, self.prepared, self.folder = run, objective, prepared, folder
        self.journal, self.listener = journal, listener

    def __call__(self, report: Report) -> None:
        values = asdict(report)
        self.journal.write(values.pop("step"), **values)
        self.listener.step(report)
        if report.skipped:
            documents = self.run.batches.documents(report.step - 1)
            self._tell("skipped", report.step, reason=report.skipped, documents=documents)
        recipe = self.prepared.recipe
        if self._due(report.step, recipe.validate_every):
            self._validate(report.step)
        if self._due(report.step, recipe.sample_every):
            self._sample(report.step)

    def _due(self, step: int, every: int) -> bool:
        return step == self.prepared.recipe.steps or (every > 0 and step % every == 0)

    def _validate(self, step: int) -> None:
        if self.prepared.held_out is not None:
            loss = self.prepared.held_out.measure(self.objective, self.run.team)
            self._tell("validation", step, loss=loss.nats, bits_per_byte=loss.bits, tokens=loss.tokens)

    def _sample(self, step: int) -> None:
        recipe = self.prepared.recipe
        ops, whole = self._whole()
        if self.run.team.lead:
            try:
                text = sample(ops, whole, self.prepared.tokenizer, recipe.prompt)
            except WeightsError as error:  # the engine speaks of a file
                raise WeightsError(
                    f"step {step}: no sample can be written, the run blew up; remove the newest checkpoints, to go on "
                    "from an earlier one, or begin anew, with a lower rate"
                ) from error
            with atomic_file(self.folder.sample(step)) as file:
                file.write(text.encode("utf-8", "replace"))
            self._tell("sample", step, prompt=recipe.prompt, text=text)

    def _whole(self) -> tuple[TorchOps, Weights[Tensor]]:
        """The model as one process can run it: as it is, or brought together on the CPU."""
        team = self.run.team
        if team.processes == 1:
            return self.objective.ops, self.objective.weights
        values = {}
        for name, parameter in self.run.parameters.items():
            value = team.whole(parameter)  # all take part in bringing it together; only the leader keeps it
            values[name] = value.cpu() if team.lead else value.new_empty(()).cpu()
        return TorchOps(dtype=self.objective.ops.dtype), weights(self.prepared.recipe.model, values)

    def _tell(self, name: str, step: int, **values: Any) -> None:
        self.journal.event(name, step, **values)
        self.listener.event(name, step, values)
