"""Tests of training/loop.py: learning, any split, exact resume, refusals, the guard against NaN."""

import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch

from llamero.errors import FormatError, SettingError, WeightsError
from llamero.ops.torch_ops import TorchOps
from llamero.training.data.batches import Batches
from llamero.training.data.tokens import Tokens
from llamero.training.guard import Limits
from llamero.training.loop import Run, Settings
from llamero.training.optimizer import Constants
from llamero.training.parameters import arrays, fresh, weights
from llamero.training.pretrain import NextToken
from llamero.training.schedule import Cosine, Plateau

NEW = "constants.rounds"


def run_of(config, tokens, folder=None, steps=12, seed=0, changed=(), wrap=lambda objective: objective, **options):
    options = {"schedule": Cosine(3e-3, steps, 3)} | options
    parameters = fresh(config, seed)
    batches = Batches(tokens, context=config.context, sequences=6, seed=seed)
    objective = wrap(NextToken(TorchOps(), weights(config, parameters)))
    return Run(parameters, objective, batches, Settings(**options), folder, changed)


def values(run):
    return np.concatenate([value.ravel() for value in arrays(run.parameters).values()])


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_it_learns_what_there_is_to_learn(config, tokens, kind):
    reports = []
    run = run_of(config, tokens, steps=150, constants=Constants(epsilon=1e-8, decay=0.01, kind=kind))
    run.train(reports.append)
    assert [report.step for report in reports] == list(range(1, 151))
    assert reports[0].loss == pytest.approx(math.log(97), abs=0.05)
    assert np.mean([report.loss for report in reports[-10:]]) < math.log(97) - 0.1
    assert all(report.tokens == 96 and not report.skipped for report in reports)


@pytest.mark.parametrize("micro", [1, 2, 4, 5])
def test_a_split_batch_gives_the_same_run(config, tokens, micro):
    marks = np.random.default_rng(0).random(tokens.ids.size) < 0.4  # parts with very different numbers of tokens
    marked = Tokens.of(tokens.ids, marks)
    whole, split = run_of(config, marked, micro=6), run_of(config, marked, micro=micro)
    for _ in range(3):
        one, other = whole.advance(), split.advance()
        assert one.loss == pytest.approx(other.loss, rel=1e-6)
        assert one.norm == pytest.approx(other.norm, rel=1e-5)
    np.testing.assert_allclose(values(whole), values(split), rtol=0, atol=2e-6)


def test_a_stopped_run_goes_on_exactly(config, tokens, tmp_path):
    straight, losses = run_of(config, tokens), {}
    straight.train(lambda report: losses.update({report.step: report.loss}))
    run_of(config, tokens, tmp_path).train(until=4)
    run_of(config, tokens, tmp_path).train(until=5)
    last = run_of(config, tokens, tmp_path)
    assert (last.step, last.updates) == (5, 5)
    again = {}
    last.train(lambda report: again.update({report.step: report.loss}))
    assert again == {step: losses[step] for step in range(6, 13)}
    np.testing.assert_array_equal(values(last), values(straight))


def test_a_run_may_go_on_with_muon(config, tokens, tmp_path):
    run_of(config, tokens, tmp_path).train(until=4)
    muon = Constants(kind="muon")
    with pytest.raises(SettingError, match=r"constants\.kind 'adamw', and 'muon'"):
        run_of(config, tokens, tmp_path, constants=muon)
    first = run_of(config, tokens, tmp_path, constants=muon, changed=["constants.kind"])
    first.train(until=7)
    straight = values(first)
    shutil.rmtree(tmp_path)
    run_of(config, tokens, tmp_path).train(until=4)
    run_of(config, tokens, tmp_path, constants=muon, changed=["constants.kind"]).train(until=5)
    again = run_of(config, tokens, tmp_path, constants=muon)
    again.train(until=7)
    np.testing.assert_array_equal(values(again), straight)


def test_a_run_with_muon_that_went_on_remembers_no_more(config, tokens, tmp_path):
    muon = Constants(kind="muon")
    run_of(config, tokens, tmp_path / "straight", constants=muon).train(until=6)
    run_of(config, tokens, tmp_path / "stopped", constants=muon).train(until=3)
    run_of(config, tokens, tmp_path / "stopped", constants=muon).train(until=6)
    straight, stopped = ((tmp_path / name).rglob("step-00000006/*.safetensors") for name in ("straight", "stopped"))
    assert [path.read_bytes() for path in stopped] == [path.read_bytes() for path in straight] != []


def test_saving_by_the_way_loses_only_the_steps_since(config, tokens, tmp_path):
    run = run_of(config, tokens, tmp_path, save_every=5)
    for _ in range(2):
        run.advance()  # not saved: as if killed here
    assert run_of(config, tokens, tmp_path).step == 0

    class Killed(Exception):
        pass

    def kill(report):
        if report.step == 8:
            raise Killed

    with pytest.raises(Killed):
        run_of(config, tokens, tmp_path, save_every=5).train(kill)
    assert run_of(config, tokens, tmp_path).step == 5


def test_a_finished_run_stays_finished(config, tokens, tmp_path):
    first = run_of(config, tokens, tmp_path, steps=3)
    first.train()
    again = run_of(config, tokens, tmp_path, steps=3)
    again.train(lambda report: pytest.fail(f"there was nothing left to do: {report}"))
    np.testing.assert_array_equal(values(again), values(first))


def test_other_settings_and_data_are_refused(config, tokens, tmp_path):
    run_of(config, tokens, tmp_path).train(until=2)
    other = Tokens.of(tokens.ids[::-1])
    with pytest.raises(SettingError, match=f"data '{tokens.fingerprint}'.*{other.fingerprint}"):
        run_of(config, other, tmp_path)
    with pytest.raises(SettingError, match=r"schedule\.steps 12, and 13"):
        run_of(config, tokens, tmp_path, steps=13)
    with pytest.raises(SettingError, match=r"constants\.decay"):
        run_of(config, tokens, tmp_path, constants=Constants(decay=0.2))
    with pytest.raises(SettingError, match="schedule"):
        run_of(config, tokens, tmp_path, schedule=Plateau(3e-3, 12, 3, 0))
    assert run_of(config, tokens, tmp_path, steps=13, changed=["schedule.steps"], micro=1).step == 2


def test_a_checkpoint_older_than_a_setting_was_made_with_its_default(config, tokens, tmp_path, monkeypatch):
    whole = Run.origin
    with monkeypatch.context() as past:
        past.setattr(Run, "origin", property(lambda self: {k: v for k, v in whole.fget(self).items() if k != NEW}))
        run_of(config, tokens, tmp_path).train(until=2)
    assert run_of(config, tokens, tmp_path).step == 2
    with pytest.raises(SettingError, match=r"--allow-change constants\.rounds"):
        run_of(config, tokens, tmp_path, constants=Constants(rounds="bf16"))


def test_a_setting_that_is_none_cannot_change(config, tokens, tmp_path):
    with pytest.raises(SettingError, match=r"'schedule\.stepz'.*did you mean 'schedule\.steps'"):
        run_of(config, tokens, tmp_path, changed=["schedule.stepz"])


def test_another_model_is_refused(config, tokens, tmp_path):
    run_of(config, tokens, tmp_path).train(until=2)
    with pytest.raises(FormatError, match="another model"):
        run_of(dataclasses.replace(config, layers=3), tokens, tmp_path)


class Poisoned:
    """An objective whose gradients are NaN for some batches."""

    def __init__(self, objective, parameters, bad):
        self.objective, self.parameters, self.bad, self.calls = objective, parameters, bad, 0

    def accumulate(self, batch, divisor):
        loss = self.objective.accumulate(batch, divisor)
        self.calls += 1
        if self.calls in self.bad:
            self.parameters["norm"].grad.fill_(math.nan)
        return loss


def test_steps_without_finite_gradients_are_skipped(config, tokens, tmp_path):
    run = run_of(config, tokens, tmp_path)
    run.objective = Poisoned(run.objective, run.parameters, {3})
    run.advance(), run.advance()
    before = values(run)
    report = run.advance()
    assert report.skipped
    assert math.isnan(report.norm)
    np.testing.assert_array_equal(values(run), before)
    assert not run.advance().skipped
    assert (run.step, run.updates) == (4, 3)
    assert np.isfinite(values(run)).all()
    run.save(), run.saver.wait()
    resumed = run_of(config, tokens, tmp_path)
    assert (resumed.step, resumed.updates) == (4, 3)
    run.advance(), resumed.advance()
    np.testing.assert_array_equal(values(resumed), values(run))


def test_ten_such_steps_in_a_row_end_the_run(config, tokens):
    run = run_of(config, tokens, steps=30)
    run.objective = Poisoned(run.objective, run.parameters, set(range(2, 100)))
    with pytest.raises(WeightsError, match="step 11: 10 steps in a row"):
        run.train()


def test_a_batch_in_which_nothing_counts_is_skipped(config, tokens):
    run = run_of(config, Tokens.of(tokens.ids, np.zeros(tokens.ids.size, np.bool_)))
    report = run.advance()
    assert report.skipped
    assert report.tokens == 0
    assert math.isnan(report.loss)
    assert torch.equal(run.parameters["norm"], torch.ones_like(run.parameters["norm"]))


def test_a_spike_is_skipped_and_a_resumed_run_skips_it_too(config, tokens, tmp_path):
    limits = Limits(window=8)
    straight = run_of(config, tokens, limits=limits, steps=30)
    straight.train(until=20)
    before = values(straight)
    straight.objective = Scaled(straight.objective, straight.parameters, 1)
    assert "gradient norm" in straight.advance().skipped
    np.testing.assert_array_equal(values(straight), before)

    run_of(config, tokens, tmp_path, limits=limits, steps=30).train(until=19)
    run_of(config, tokens, tmp_path, limits=limits, steps=30).train(until=20)
    again = run_of(config, tokens, tmp_path, limits=limits, steps=30)
    assert again.guard.state != [[0.0], [], []]
    again.objective = Scaled(again.objective, again.parameters, 1)
    assert "gradient norm" in again.advance().skipped
    straight.train(), again.train()
    np.testing.assert_array_equal(values(straight), values(again))
    assert straight.updates == again.updates == 29


class Scaled:
    """An objective whose first gradients are a thousand times too large."""

    def __init__(self, objective, parameters, steps):
        self.objective, self.parameters, self.left = objective, parameters, steps

    def accumulate(self, batch, divisor):
        loss = self.objective.accumulate(batch, divisor)
        if self.left:
            for parameter in self.parameters.values():
                parameter.grad *= 1000
            self.left -= 1
        return loss


def test_a_run_that_is_asked_to_stop_saves_and_goes_on(config, tokens, tmp_path):
    straight, losses = run_of(config, tokens), []
    straight.train(lambda report: losses.append(report.loss))
    run, found = run_of(config, tokens, tmp_path), []
    run.train(lambda report: found.append(report.loss), stop=lambda: len(found) == 5)
    assert run.step == 5
    again = run_of(config, tokens, tmp_path)
    again.train(lambda report: found.append(report.loss), stop=lambda: False)
    assert found == losses


def test_what_else_decides_the_result_must_be_the_same(config, tokens, tmp_path):
    run_of(config, tokens, tmp_path, also={"dtype": "f32"}).train(until=2)
    with pytest.raises(SettingError, match="dtype 'f32', and 'bf16'"):
        run_of(config, tokens, tmp_path, also={"dtype": "bf16"})
    run_of(config, tokens, tmp_path, also={"dtype": "bf16"}, changed=["dtype"])


def test_a_setting_may_be_named_in_short(config, tokens, tmp_path):
    run_of(config, tokens, tmp_path).train(until=2)
    assert run_of(config, tokens, tmp_path, steps=13, changed=["steps"]).step == 2


def test_gradients_are_clipped(config, tokens):
    reports = []
    run = run_of(config, tokens, constants=Constants(clip=1e-3, epsilon=1.0, decay=0.0), schedule=Cosine(1.0, 9, 0))
    before = values(run)
    run.train(reports.append, until=1)
    moved = np.linalg.norm(values(run) - before)
    assert reports[0].norm > 0.1
    assert moved == pytest.approx(1e-3, rel=0.01)  # with so large an epsilon an update is the gradient itself


@pytest.mark.parametrize("wrong", [{"micro": 0}, {"save_every": -1}])
def test_absurd_settings_are_refused(wrong):
    with pytest.raises(SettingError):
        Settings(Cosine(1e-3, 10, 1), **wrong)
