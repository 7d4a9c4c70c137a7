"""Tests of training/recipe.py, presets.py and ramp.py: the papers' numbers, what follows from what, contradictions."""

import json
import math

import pytest

from llamero.errors import SettingError
from llamero.training.presets import PRESETS, preset
from llamero.training.recipe import settings


@pytest.mark.parametrize(
    ("name", "billions", "trillions", "rate", "context", "epsilon"),
    [
        ("llama-1-7b", 6.7, 1.0, 3e-4, 2048, 1e-8),
        ("llama-1-13b", 13.0, 1.0, 3e-4, 2048, 1e-8),
        ("llama-1-33b", 32.5, 1.4, 1.5e-4, 2048, 1e-8),
        ("llama-1-65b", 65.3, 1.4, 1.5e-4, 2048, 1e-8),
        ("llama-2-7b", 6.7, 2.0, 3e-4, 4096, 1e-5),
        ("llama-2-13b", 13.0, 2.0, 3e-4, 4096, 1e-5),
        ("llama-2-70b", 69.0, 2.0, 1.5e-4, 4096, 1e-5),
    ],
)
def test_llama_1_and_2(name, billions, trillions, rate, context, epsilon):
    recipe = PRESETS[name]
    assert recipe.model.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert recipe.steps * recipe.batch / 1e12 == pytest.approx(trillions, rel=1e-5)
    assert (recipe.rate, recipe.model.context, recipe.batch) == (rate, context, 4 << 20)
    assert (recipe.beta1, recipe.beta2, recipe.epsilon, recipe.decay, recipe.clip) == (0.9, 0.95, epsilon, 0.1, 1.0)
    assert (recipe.schedule, recipe.warmup, recipe.floor, recipe.learner) == ("cosine", 2000, 0.1, "sentencepiece")


def test_llama_3():
    recipe = PRESETS["llama-3.1-405b"]
    schedule = recipe.rates()
    assert schedule.at(7999) == recipe.rate == 8e-5
    assert schedule.at(1_200_000) == pytest.approx(8e-7)
    assert recipe.model.parameters / 1e9 == pytest.approx(405.85, rel=1e-4)
    first, second, third = recipe.batches().stages
    assert (first.batch, first.context) == (4 << 20, 4096)
    assert (second.batch, second.context) == (8 << 20, 8192)
    assert 252e6 <= second.tokens < 252e6 + (4 << 20)
    assert (third.batch, third.context) == (16 << 20, 8192)
    assert 2.87e12 <= third.tokens < 2.87e12 + (8 << 20)
    assert {name: PRESETS[name].rate for name in ("llama-3-8b", "llama-3-70b")} == {
        "llama-3-8b": 3e-4,
        "llama-3-70b": 1.5e-4,
    }


def test_every_setting_can_be_changed_by_name():
    recipe = PRESETS["tiny"]
    for name, value in recipe.flat().items():
        if name == "rope_scaling":
            continue
        assert name in settings()
        assert preset("tiny", **{name: value}).flat()[name] == value
    assert json.loads(json.dumps(recipe.flat())) == recipe.flat()
    assert recipe.flat().keys() - settings().keys() == {"rope_scaling"}


def test_what_follows_from_a_setting_follows():
    assert preset("tiny").warmup == PRESETS["tiny"].warmup
    assert preset("tiny", steps=50).warmup == 5
    assert preset("tiny", steps=50, warmup=20).warmup == 20
    wsd = preset("tiny", schedule="wsd", steps=100)
    assert (wsd.cooldown, wsd.floor, wsd.rates().at(100)) == (20, 0.0, 0.0)
    line = preset("tiny", schedule="linear", steps=100, warmup=0, rate=1)
    assert line.rates().at(50) == pytest.approx(0.5)
    assert preset("llama-3-8b", batch=8192).ramp == ""
    assert preset("llama-3-8b", batch=8192).sequences == 1
    assert preset("tiny", average=5).keep == 5
    assert preset("tiny", micro=3).at_once == 3
    assert preset("tiny").at_once == 16
    assert preset("llama-2-7b").at_once == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"stepz": 3}, "did you mean 'steps'"),
        ({"steps": "3"}, "steps must be int"),
        ({"steps": True}, "steps must be int"),
        ({"steps": 0}, "at least one step"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"dtype": "f16"}, "dtype cannot be 'f16'"),
        ({"batch": 1000}, "whole windows of 256, such as 1024"),
        ({"steps": 50, "warmup": 51}, r"warm-up \(51\)"),
        ({"cooldown": 5}, "cooldown belongs to the schedule wsd"),
        ({"schedule": "wsd", "steps": 50, "cooldown": 60}, "do not fit"),
        ({"kv_heads": 3}, "multiple of kv_heads"),
        ({"beta1": 1.0}, "beta1"),
        ({"patience": 0}, "patience"),
        ({"average": 3, "keep": 2}, r"average \(3\)"),
        ({"average": 9}, r"average \(9\): .* 8 checkpoints"),
        ({"average": 2, "save_every": 0}, r"average \(2\): .* 1 checkpoint"),
        ({"held_out": 0.7}, "held_out"),
        ({"z_loss": -1.0}, "z_loss cannot be negative"),
        ({"z_loss": math.nan}, "z_loss must be a finite number, got nan"),
        ({"z_loss": math.inf}, "z_loss must be a finite number, got inf"),
        ({"ramp": "0:1024"}, "the last stage must be the run's own"),
        ({"ramp": "5:1024,2048:4096"}, "begins at 0"),
        ({"ramp": "0:1024,0:4096"}, "after the one before"),
        ({"ramp": "0:1280,2048:4096"}, "does not fit"),
        ({"ramp": "0:1024@100,2048:4096"}, "does not fit"),
        ({"ramp": "a lot"}, "is not TOKENS:BATCH"),
    ],
)
def test_contradictions_are_refused(wrong, words):
    with pytest.raises(SettingError, match=words):
        preset("tiny", **wrong)


def test_the_example_of_a_ramp_is_one():
    with pytest.raises(SettingError) as refused:
        preset("llama-3-8b", ramp="a lot")
    example = str(refused.value).partition("such as ")[2]
    batch = int(example.partition(":")[2].partition("@")[0])
    recipe = preset("llama-3-8b", ramp=f"0:4194304@4096,{example}", batch=batch)
    assert [stage.batch for stage in recipe.batches().stages] == [4194304, batch]


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(SettingError, match="did you mean 'llama-2-7b'"):
        preset("lama-2-7b")
