"""A whole life in a minute: a made language is learnt from its text, written to a file, and spoken by the engine.

The stories come from a grammar whose entropy is known, so how well they can be learnt is known too.
"""

from __future__ import annotations

import importlib.util
import math
import random
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from llamero import Llama
from llamero.formats.gguf import GGUF
from llamero.model.config import Config
from llamero.model.llama import forward
from llamero.model.weights import config_of, load
from llamero.ops.numpy_ops import NumpyOps
from llamero.ops.protocol import Span
from llamero.ops.torch_ops import TorchOps

NAMES = ["Ana", "Ben", "Kai", "Lia", "Tom", "Zoe", "Sam", "Mia"]
SAYS = {"llama": "hum", "mouse": "squeak", "duck": "quack", "bear": "growl"}
SAYS |= {"fox": "yip", "owl": "hoot", "frog": "croak", "cat": "meow"}
PLACES = ["the sea", "the hill", "the farm", "the lake", "the town", "the wood", "the cave", "the moon"]
THINGS = ["a drum", "a hat", "a cake", "a boat", "a kite", "a book", "a bell", "a rope"]
CHOICES = 4 * math.log(8)  # nats that decide a story: four of eight
CONFIG = Config(dim=64, layers=2, heads=4, kv_heads=2, head_dim=32, ffn_dim=128, vocab=360, context=64, tied=True)
STEPS = 200


def story(rng: random.Random) -> str:
    animal, name, place, thing = (rng.choice(words) for words in (list(SAYS), NAMES, PLACES, THINGS))
    return (
        f"Once upon a time a {animal} said {SAYS[animal]}. It found {thing} near {place}. "
        f"It gave it to {name}. They were happy."
    )


def recipe() -> ModuleType:
    """recipes/stories.py, which is a program and not part of the package."""
    spec = importlib.util.spec_from_file_location("stories", Path(__file__).parents[1] / "recipes" / "stories.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float], list[str]]:
    """The file of a life, its losses, and the texts it was raised on."""
    rng = random.Random(0)
    texts = [story(rng) for _ in range(2000)]
    losses: list[float] = []
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    path = recipe().live(
        texts,
        CONFIG,
        tmp_path_factory.mktemp("life") / "toy.gguf",
        steps=STEPS,
        sequences=12,
        rate=6e-3,
        tell=lambda report: losses.append(report.loss),
    )
    torch.set_num_threads(before)
    return path, losses, texts


def test_it_learns_nearly_all_there_is_to_learn(life: tuple[Path, list[float], list[str]]) -> None:
    path, losses, _ = life
    assert len(losses) == STEPS
    assert losses[0] == pytest.approx(math.log(CONFIG.vocab), abs=0.1)
    rng, costs = random.Random(5), []
    with Llama(path) as llama:
        for _ in range(30):
            ids = [*llama.tokenize(story(rng)), llama.tokenizer.eos_id]
            logits = llama.logits(ids).astype(np.float64)
            chances = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            costs.append(-chances[np.arange(len(ids) - 1), ids[1:]].sum())
    # a perfect reader pays for the four choices of a story and for nothing else
    assert 0.98 * CHOICES < np.mean(costs) < 1.15 * CHOICES


def test_the_file_is_a_llama_that_everything_reads(life: tuple[Path, list[float], list[str]]) -> None:
    path, _, texts = life
    reader = GGUF.open(path)
    assert config_of(reader) == CONFIG
    with Llama(path) as native:
        ids = native.tokenize(texts[0])
        found = native.logits(ids)
    for ops in (NumpyOps(), TorchOps()):
        wanted = ops.numpy(forward(ops, load(GGUF.open(path), ops), None, ids, [Span(0, len(ids))]))
        assert found.shape == wanted.shape == (len(ids), CONFIG.vocab)
        assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)
        assert (found.argmax(axis=1) == wanted.argmax(axis=1)).mean() > 0.97


def test_it_tells_a_story_that_makes_sense(life: tuple[Path, list[float], list[str]]) -> None:
    path, _, texts = life
    known = set(re.findall(r"\w+", " ".join(texts)))
    with Llama(path) as llama:
        told = [llama.generate("Once upon a time", max_tokens=60, seed=seed, temperature=1.0) for seed in range(8)]
    whole = re.compile(
        r" a (\w+) said (\w+)\. It found (a \w+) near (the \w+)\. It gave it to (\w+)\. They were happy\."
    )
    assert all(set(re.findall(r"\w+", each.text)) <= known for each in told)
    matches = [match for match in (whole.fullmatch(each.text) for each in told) if match]
    assert len(matches) >= 7
    assert sum(SAYS.get(match[1]) == match[2] for match in matches) >= 6  # and a duck says quack
    assert all(each.finish_reason == "stop" for each in told)
    assert len({each.text for each in told}) > 4


def test_it_says_the_same_again(life: tuple[Path, list[float], list[str]]) -> None:
    path, _, _ = life
    answers = []
    for _ in range(2):
        with Llama(path) as llama:
            answers.append([llama.generate("Once upon a time", max_tokens=40, temperature=0).text])
            answers[-1].append(llama.generate("One day", max_tokens=40, temperature=0.9, seed=3).text)
    assert answers[0] == answers[1]


def test_the_same_life_again_gives_the_same_file(tmp_path: Path) -> None:
    rng = random.Random(1)
    texts = [story(rng) for _ in range(300)]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    files = [recipe().live(texts, CONFIG, tmp_path / name / "toy.gguf", steps=8).read_bytes() for name in ("a", "b")]
    torch.set_num_threads(before)
    assert files[0] == files[1]
