"""What guessing ahead and LoRA adapters cost and gain: the same steps and answers with and without, in turns.

    python bench/ahead.py guesses model.gguf --speculate ngram --repeating
    python bench/ahead.py guesses model.gguf --draft small.gguf --temperature 0.8
    python bench/ahead.py adapters model.gguf --adapters 4 --rows 8 --rank 16

guesses: tokens per second of one answer to a prompt of random tokens; with --repeating it says one token over and over,
which is the best case of looking up; else random weights say nothing twice, which is the worst. adapters: milliseconds
of a step in which so many sequences write, with random adapters of every matrix of the layers, and without. Printed are
medians.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from time import perf_counter

import numpy as np

from llamero import Llama
from llamero.engine.sequence import Sequence
from llamero.formats.blocks import F16
from llamero.model.adapter import Adapter, Matrix
from llamero.model.config import Config
from llamero.ops.adapted_ops import LowRank


def guesses(llama: Llama, temperature: float, repeating: bool, tokens: int, rounds: int) -> None:
    """Answers with and without guesses, in turns."""
    vocab = llama.tokenizer.vocab_size
    prompt = [1, *np.random.default_rng(0).integers(3, vocab, 60).tolist()]
    bias = {vocab // 2: 100.0} if repeating else {}
    speculation = llama.engine.speculation
    speeds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * rounds + 2):
        guessing = bool(number % 2)
        llama.engine.speculation = speculation if guessing else None
        answer = llama.generate(prompt, max_tokens=tokens, temperature=temperature, top_p=1.0, seed=1, logit_bias=bias)
        if number >= 2:
            speeds[guessing].append(answer.timings.completion_per_second)
    plain, guessed = (statistics.median(speeds[guessing]) for guessing in (False, True))
    print(
        f"{plain:.1f} tokens/s without guesses, {guessed:.1f} with: {guessed / plain:.2f} times; "
        f"{answer.accepted_tokens} of {answer.drafted_tokens} right in the last"
    )


def random_adapter(config: Config, rank: int, seed: int) -> Adapter[Matrix]:
    """Changes of every matrix of the layers."""
    rng = np.random.default_rng(seed)
    changes = {
        name: LowRank(*(0.01 * rng.standard_normal((rank, size), np.float32) for size in (shape[1], shape[0])))
        for name, shape in config.shapes().items()
        if name.startswith("layers.") and len(shape) == 2
    }
    return Adapter(Path(f"random-{seed}"), changes)


def adapters(llama: Llama, count: int, rows: int, rank: int, rounds: int) -> None:
    """Steps in which some sequences write with adapters, and plain ones, in turns."""
    engine = llama.engine
    for number in range(count):
        engine.adapters.add(f"{number}", random_adapter(llama.config, rank, number), F16)
    names: dict[bool, list[str | None]] = {True: [f"{row % count}" for row in range(rows)], False: [None] * rows}
    groups = {
        adapted: [Sequence([1] * 20, adapter=engine.adapters.get(name)) for name in some]
        for adapted, some in names.items()
    }
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds + 1):
        for adapted, group in groups.items():
            started = perf_counter()
            engine.step([(sequence, sequence.pending) for sequence in group])
            times[adapted].append(perf_counter() - started)
            for sequence in group:
                sequence.ids.append(7)
    plain, changed = (1e3 * statistics.median(times[adapted][1:]) for adapted in (False, True))
    print(f"{rows} rows: {plain:.1f} ms plain, {changed:.1f} ms with {count} adapters: {changed / plain:.2f} times")


def main() -> None:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("guesses", "adapters"))
    parser.add_argument("model")
    parser.add_argument("--draft")
    parser.add_argument("--speculate", default="off", choices=("off", "ngram"))
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--repeating", action="store_true")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--adapters", type=int, default=4)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with Llama(args.model, draft=args.draft, speculate=args.speculate, context=1024) as llama:
        if args.what == "guesses":
            guesses(llama, args.temperature, args.repeating, args.tokens, args.rounds)
        else:
            adapters(llama, args.adapters, args.rows, args.rank, args.rounds)


if __name__ == "__main__":
    main()
