"""Raise the embedded model: llamero's small storyteller, from text files to the GGUF inside the package.

    python recipes/embedded_texts.py texts/more
    python recipes/embedded.py --data ../shared/data/text_en --more texts/more --out runs/embedded

Three stages, each a run of its own: stories at a level rate, a descent on stories and talk, and masked tuning on what
the assistant says. The same command goes on with a run that was stopped. docs/embedded.md tells how the shipped model
was raised.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from embedded_chat import Chat, Message, hard_questions
from embedded_corpus import Story, stories
from numpy.typing import NDArray

from llamero.formats.blocks import Q8_0
from llamero.model.config import Config
from llamero.ops.torch_ops import TorchOps
from llamero.tokenizer.answers import answers
from llamero.tokenizer.chat import ChatTemplate
from llamero.tokenizer.learn import learn
from llamero.tokenizer.tokenizer import Tokenizer
from llamero.training.constants import Constants, Kind
from llamero.training.data.batch import Batch
from llamero.training.data.batches import Batches
from llamero.training.data.tokens import Tokens
from llamero.training.export import export
from llamero.training.journal import Journal
from llamero.training.loop import Report, Run, Settings
from llamero.training.parameters import arrays, fresh, weights
from llamero.training.pretrain import NextToken
from llamero.training.schedule import Plateau

CONFIG = Config(
    dim=384, layers=5, heads=6, kv_heads=2, head_dim=64, ffn_dim=1024, vocab=4096, context=512, tied=True
)  # fmt: skip
ABOUT = {
    "general.name": "Llama Stories 9M",
    "general.basename": "Llama-Stories",
    "general.size_label": "9M",
    "general.license": "apache-2.0",
    "general.description": "A small demonstration model that chats a little and tells stories. Built with Llama.",
    "general.languages": ["en"],
}
SEQUENCES = 8  # of a step
RENDERINGS = 3  # of every text, asked for differently
TALKS = (16000, 30000)  # conversations without a story: in each rendering of the first stage, in the descent
TUNING_TALKS, TUNING_STORIES = 20000, 15000
SEED = 1
CHANGES = ("schedule.steps", "schedule.decay", "data")  # what the descent changes


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    every = stories(options.data, options.more)
    kept, told = ([story for story in every if story.held_out is held] for held in (True, False))
    chat = Chat(questions=hard_questions(options.data))
    tokenizer = Tokenizer(learn(itertools.chain((story.text for story in told), chat.texts()), CONFIG.vocab))
    parameters = fresh(CONFIG, SEED)
    objective = NextToken(TorchOps(dtype=torch.bfloat16), weights(CONFIG, parameters))

    def stage(name: str, tokens: Tokens, schedule: Plateau, kind: Kind = "muon", changed: Iterable[str] = ()) -> Run:
        print(f"{name}: {tokens.ids.size / 1e6:.2f} million tokens, {schedule.steps} steps", flush=True)
        batches = Batches(tokens, context=CONFIG.context, sequences=SEQUENCES, seed=SEED)
        constants = Constants(epsilon=1e-8, kind=kind, rounds="bf16")
        settings = Settings(schedule, constants, micro=SEQUENCES, save_every=150)
        return Run(parameters, objective, batches, settings, options.out / name, changed=tuple(changed))

    def train(run: Run, name: str, until: int | None = None) -> bool:
        diary = Diary(options.out / name, run.step, lambda: held_out(objective, kept, tokenizer))
        run.train(diary, until=until)
        return run.step >= run.settings.schedule.steps

    level = options.steps - options.descent
    warmup = min(200, level)
    ids = np.concatenate([encode(lessons(told, chat, seed), tokenizer) for seed in range(RENDERINGS)])
    schedule = Plateau(options.rate, level, warmup, 0)
    if not train(stage("stories", Tokens.of(ids), schedule, changed=CHANGES[:1]), "stories", options.until):
        return
    if not (options.out / "descent").exists():
        shutil.copytree(options.out / "stories", options.out / "descent")
    ids = encode(finest(told, chat, SEED + 100), tokenizer)
    schedule = Plateau(options.rate, options.steps, warmup, options.descent)
    train(stage("descent", Tokens.of(ids), schedule, changed=CHANGES), "descent")
    tokens = masked(tuning(told, chat, SEED + 200), tokenizer)
    warmup = options.tuning // 20
    schedule = Plateau(3e-4, options.tuning, warmup, options.tuning - warmup)
    train(stage("chat", tokens, schedule, kind="adamw"), "chat")
    export(options.out / "llama-stories.gguf", CONFIG, arrays(parameters), tokenizer.to_gguf() | ABOUT, Q8_0)
    print(f"wrote {options.out / 'llama-stories.gguf'}; held-out loss: {measure(objective, kept, tokenizer)}")


def lessons(told: list[Story], chat: Chat, seed: int) -> list[list[Message]]:
    """The first stage: every story as plain text (role "") or as an answer, the simplest both ways, and small talk."""
    rng = random.Random(seed)
    documents = []
    for story in told:
        plain = [("", story.text)]
        if story.tier == "tiny":
            documents += [plain, chat.conversation(rng, [story])]
        else:
            documents.append(plain if not story.prompts or rng.random() < 0.4 else chat.conversation(rng, [story]))
    documents += [chat.conversation(rng) for _ in range(TALKS[0])]
    rng.shuffle(documents)
    return documents


def finest(told: list[Story], chat: Chat, seed: int) -> list[list[Message]]:
    """The descent: stories mostly as answers, half of what is no answer, and much talk."""
    rng = random.Random(seed)
    documents = []
    for story in told:
        if story.tier == "tiny" or (story.prompts and rng.random() < 0.7):
            documents.append(chat.conversation(rng, [story]))
        if rng.random() < (0.3 if story.tier == "tiny" else 0.0 if story.prompts else 0.5):
            documents.append([("", story.text)])
    documents += [chat.conversation(rng) for _ in range(TALKS[1])]
    rng.shuffle(documents)
    return documents


def tuning(told: list[Story], chat: Chat, seed: int) -> list[list[Message]]:
    """The last stage: talk, and the shorter of the simplest stories on request."""
    rng = random.Random(seed)
    short = [story for story in told if story.tier == "tiny" and len(story.text) < 1500]
    rng.shuffle(short)
    documents = [chat.conversation(rng, [story]) for story in short[:TUNING_STORIES]]
    documents += [chat.conversation(rng) for _ in range(TUNING_TALKS)]
    rng.shuffle(documents)
    return documents


def encode(documents: list[list[Message]], tokenizer: Tokenizer) -> NDArray[np.uint16]:
    """Documents as one flat run of ids; each begins with the begin token, plain text ends with the end token."""
    parts = []
    for messages in documents:
        text = "".join(
            f"<|start_header_id|>{role}<|end_header_id|>\n\n{said}<|eot_id|>" if role else f"{said}<|end_of_text|>"
            for role, said in messages
        )
        parts.append(np.array(tokenizer.encode(text, special=True), np.uint16))
    return np.concatenate(parts)


def masked(documents: list[list[Message]], tokenizer: Tokenizer) -> Tokens:
    """Conversations as one flat run of ids in which only what the assistant says counts."""
    template = ChatTemplate.builtin("llama-3")
    ids: list[int] = []
    counts: list[bool] = []
    for messages in documents:
        more, says = answers(template, tokenizer, [{"role": role, "content": said} for role, said in messages])
        ids += more
        counts += says
    return Tokens.of(np.array(ids, np.uint16), np.array(counts))


def measure(objective: NextToken, told: list[Story], tokenizer: Tokenizer) -> tuple[float, float]:
    """Loss on plain stories, each alone: nats per token and bits per byte of text (its end included)."""
    nats, tokens, size = 0.0, 0, 0
    for story in told:
        ids = encode([[("", story.text)]], tokenizer).astype(np.int64)[None]  # (1, tokens)
        if ids.shape[1] <= CONFIG.context:
            nats += objective.measure(Batch.of(ids))
            tokens += ids.size - 1
            size += len(story.text.encode())
    return nats / tokens, nats / math.log(2) / size


def held_out(objective: NextToken, kept: list[Story], tokenizer: Tokenizer) -> dict[str, float]:
    """`measure` by name, for the journal."""
    return dict(zip(("nats", "bits_per_byte"), measure(objective, kept, tokenizer), strict=True))


class Diary:
    """Writes every step to the run's journal, and now and then the held-out loss, and says how it goes."""

    def __init__(self, folder: Path, step: int, check: Callable[[], dict[str, float]]) -> None:
        self.journal, self.check, self.began, self.tokens = Journal(folder, step), check, time.time(), 0

    def __call__(self, report: Report) -> None:
        self.tokens += report.tokens
        line = {name: value for name, value in asdict(report).items() if name != "step"}
        self.journal.write(report.step, **line)
        if report.step % 25 == 0:
            line["tokens_per_second"] = round(self.tokens / (time.time() - self.began))
            print(json.dumps({"step": report.step} | line), flush=True)
        if report.step % 500 == 0:
            self.journal.event("validation", report.step, **self.check())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/text_en"), help="folder of the texts")
    parser.add_argument("--more", type=Path, help="folder of further TinyStories, from embedded_texts.py")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"), help="folder of the run")
    parser.add_argument(
        "--steps",
        type=int,
        default=10000,
        help="of 4096 tokens each, the descent included; may be changed until it begins",
    )
    parser.add_argument("--descent", type=int, default=1500, help="steps of them in which the rate goes down to 0")
    parser.add_argument("--tuning", type=int, default=800, help="steps of the masked stage")
    parser.add_argument("--until", type=int, help="stop at this step of the first stage; without it, go on")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
