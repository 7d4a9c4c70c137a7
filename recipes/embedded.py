"""Raise the embedded model: llamero's small storyteller, from text files to the GGUF inside the package.

    python recipes/embedded.py --data ../shared/data/text_en --out runs/embedded --steps 3000

The same command goes on with a run that was stopped. docs/embedded.md tells how the shipped model was raised.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from embedded_corpus import Message, Story, conversation, stories, talks
from numpy.typing import NDArray

from llamero.formats.blocks import Q8_0
from llamero.model.config import Config
from llamero.ops.torch_ops import TorchOps
from llamero.tokenizer.learn import learn
from llamero.tokenizer.tokenizer import Tokenizer
from llamero.training.batch import Batch
from llamero.training.batches import Batches
from llamero.training.export import export
from llamero.training.loop import Report, Run, Settings
from llamero.training.optimizer import Constants
from llamero.training.parameters import Parameters, arrays, fresh, weights
from llamero.training.pretrain import NextToken
from llamero.training.schedule import Plateau
from llamero.training.tokens import Tokens

CONFIG = Config(dim=256, layers=4, heads=4, kv_heads=2, head_dim=64, ffn_dim=768, vocab=4096, context=512, tied=True)
ABOUT = {
    "general.name": "Llama Stories 4M",
    "general.basename": "Llama-Stories",
    "general.size_label": "4M",
    "general.license": "apache-2.0",
    "general.description": "A small demonstration model that tells short stories. Built with Llama.",
    "general.languages": ["en"],
}
TALKS = Path(__file__).with_name("embedded_talk.txt")
EPOCHS = 2  # told differently each time
CONVERSATIONS = 5000  # of small talk alone, per epoch
TUNING, TUNING_STEPS = 3000, 240  # conversations and steps of the second stage
SEED = 1
CHANGES = ("schedule.steps", "schedule.decay", "constants.kind")  # what a run that goes on may change


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    told = stories(options.data)
    kept = [story for story in told if story.held_out]
    told = [story for story in told if not story.held_out]
    tokenizer = Tokenizer(learn((story.text for story in told), CONFIG.vocab))
    ids = np.concatenate([encode(documents(told, seed), tokenizer) for seed in range(EPOCHS)])
    print(f"{len(told)} stories, {ids.size / 1e6:.2f} million tokens; {len(kept)} stories held out")
    parameters = fresh(CONFIG, SEED)
    objective = NextToken(TorchOps(), weights(CONFIG, parameters))
    batches = Batches(Tokens.of(ids), context=CONFIG.context, sequences=4, seed=SEED)
    schedule = Plateau(options.rate, options.steps, warmup=100, decay=options.steps // 4)
    settings = Settings(schedule, Constants(epsilon=1e-8, kind=options.optimizer), micro=4, save_every=200)
    run = Run(parameters, objective, batches, settings, options.out, changed=CHANGES)
    run.train(Diary(options.out, lambda: held_out(objective, kept, tokenizer)), until=options.until)
    if run.step == options.steps:
        tune(parameters, objective, told, tokenizer, options.out / "chat")
    export(options.out / "llama-stories.gguf", CONFIG, arrays(parameters), tokenizer.to_gguf() | ABOUT, Q8_0)
    print(f"wrote {options.out / 'llama-stories.gguf'}; held-out loss: {measure(objective, kept, tokenizer)}")


def tune(parameters: Parameters, objective: NextToken, told: list[Story], tokenizer: Tokenizer, folder: Path) -> None:
    """A short second stage on conversations, in which only what the assistant says counts."""
    rng = random.Random(SEED + EPOCHS)
    all_talks = talks(TALKS)
    tiny = rng.sample([story for story in told if story.tier == "tiny"], TUNING * 2 // 5)
    chats = [conversation(all_talks, story, rng) for story in tiny]
    chats += [conversation(all_talks, None, rng) for _ in range(TUNING)]
    rng.shuffle(chats)
    ids = encode(chats, tokenizer)
    tokens = Tokens.of(ids, answers(ids, tokenizer))
    batches = Batches(tokens, context=CONFIG.context, sequences=4, seed=SEED)
    settings = Settings(
        Plateau(5e-4, TUNING_STEPS, warmup=10, decay=TUNING_STEPS - 10), Constants(epsilon=1e-8), micro=4
    )
    Run(parameters, objective, batches, settings, folder).train(Diary(folder, dict))


def answers(ids: NDArray[np.uint16], tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Which ids the assistant says: all between its header and the end of its turn, that end included."""
    header = tokenizer.encode("<|start_header_id|>assistant<|end_header_id|>\n\n", bos=False, special=True)
    counts, speaking = np.zeros(ids.size, np.bool_), False
    for place, number in enumerate(ids.tolist()):
        counts[place] = speaking
        if speaking:
            speaking = number != tokenizer.eot_id
        elif number == header[-1]:
            speaking = ids[place + 1 - len(header) : place + 1].tolist() == header
    return counts


def documents(told: list[Story], seed: int) -> list[list[Message]]:
    """One epoch: every story as plain text (role "") or as an answer, the simplest both ways, and small talk."""
    rng = random.Random(seed)
    all_talks = talks(TALKS)
    epoch = []
    for story in told:
        plain = [("", story.text)]
        if story.tier == "tiny":
            epoch += [plain, conversation(all_talks, story, rng)]
        else:
            epoch.append(plain if rng.random() < 0.4 else conversation(all_talks, story, rng))
    epoch += [conversation(all_talks, None, rng) for _ in range(CONVERSATIONS)]
    rng.shuffle(epoch)
    return epoch


def encode(epoch: list[list[Message]], tokenizer: Tokenizer) -> NDArray[np.uint16]:
    """Documents as one flat run of ids; each begins with the begin token, plain text ends with the end token."""
    parts = []
    for messages in epoch:
        text = "".join(
            f"<|start_header_id|>{role}<|end_header_id|>\n\n{said}<|eot_id|>" if role else f"{said}<|end_of_text|>"
            for role, said in messages
        )
        parts.append(np.array(tokenizer.encode(text, special=True), np.uint16))
    return np.concatenate(parts)


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
    """`measure` by name, for the log."""
    return dict(zip(("held_out_nats", "held_out_bits_per_byte"), measure(objective, kept, tokenizer), strict=True))


class Diary:
    """Writes every step to log.jsonl, and now and then the held-out loss, and says how it goes."""

    def __init__(self, folder: Path, check: Callable[[], dict[str, float]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.check, self.began, self.tokens = folder / "log.jsonl", check, time.time(), 0

    def __call__(self, report: Report) -> None:
        line = asdict(report)
        self.tokens += report.tokens
        if report.step % 250 == 0:
            line |= self.check()
        if report.step % 25 == 0:
            line["tokens_per_second"] = round(self.tokens / (time.time() - self.began))
            print(json.dumps(line), flush=True)
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/text_en"), help="folder of the texts")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"), help="folder of the run")
    parser.add_argument("--steps", type=int, default=3000, help="of 2048 tokens each")
    parser.add_argument("--until", type=int, help="stop at this step; the same command without it goes on")
    parser.add_argument("--optimizer", default="muon", choices=("adamw", "muon"))
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
