"""Answers of random weights, held against the JSON schemas that they were to keep; and what keeping to one costs.

    python bench/schemas.py                                         1,000 answers, the vocabulary of the model inside
    python bench/schemas.py --tokenizer tokenizer.model             another vocabulary: SentencePiece, 128k tokens
    python bench/schemas.py --cost --tokenizer tokenizer.model      one step of 1B Q8_0 with and without a schema

Random weights are the hardest case: nothing but the constraint makes an answer JSON. The judge is the jsonschema
package, formats included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator as Judge
from jsonschema import ValidationError
from models import FOLDER, model_file
from numpy.typing import NDArray

import llamero
from llamero import Llama
from llamero.errors import SettingError
from llamero.formats.gguf import write_gguf
from llamero.model.config import Config
from llamero.model.config_files import config_to_gguf
from llamero.model.weights import named_tensors
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.tokenizer import Tokenizer

INSIDE = Path(llamero.__file__).parent / "embedded" / "llama-stories.gguf"
SCHEMAS: dict[str, Any] = json.loads(Path(__file__).with_name("schemas.json").read_text(encoding="utf-8"))
ROUNDS = 3


def main() -> None:
    options = arguments()
    if options.cost:
        cost(options.tokenizer, options.shape, options.mix, options.tokens)
    else:
        with tempfile.TemporaryDirectory() as folder:
            llama = random_llama(Path(folder), load_tokenizer(options.tokenizer))
            validity(llama, options.answers, options.tokens, options.seed)


def validity(llama: Llama, answers: int, tokens: int, first: int) -> None:
    """A table: of each schema, how many answers there were, were valid, ended by themselves, and their length."""
    print(f"{'schema':14} {'answers':>8} {'valid':>8} {'ended':>8} {'tokens':>8} {'ms/token':>9}")
    total = good = 0
    for place, (name, schema) in enumerate(SCHEMAS.items()):
        judge = Judge(schema, format_checker=Judge.FORMAT_CHECKER)
        count = answers * (place + 1) // len(SCHEMAS) - answers * place // len(SCHEMAS)
        valid = ended = length = 0
        started = time.perf_counter()
        for seed in range(first, first + count):
            answer = llama.generate(
                [1], json_schema=schema, max_tokens=tokens, temperature=1.0, top_p=1.0, seed=seed * len(SCHEMAS) + place
            )
            valid += keeps(judge, answer.text)
            ended += answer.finish_reason == "stop"
            length += len(answer.ids)
        pace = 1e3 * (time.perf_counter() - started) / length
        print(f"{name:14} {count:8} {valid:8} {ended:8} {length / count:8.0f} {pace:9.2f}", flush=True)
        total, good = total + count, good + valid
    print(f"{'all':14} {total:8} {good:8}  {good / total:.1%} valid")


def keeps(judge: Judge, text: str) -> bool:
    """Whether a text is JSON of the schema; what is not is shown."""
    try:
        judge.validate(json.loads(text))
    except (ValueError, ValidationError) as error:
        print(f"  {text!r:.200}: {str(error).splitlines()[0]:.100}")
        return False
    return True


def cost(tokenizer: Path, shape: str, mix: str, tokens: int) -> None:
    """Milliseconds a token, free and of schemas in turns, the fastest of each; how long preparing took."""
    path, _ = model_file(FOLDER, shape, mix)
    llama = Llama(path, tokenizer=tokenizer, context=1024)
    started = time.perf_counter()
    llama.generate([1], json_schema={"type": "object"}, max_tokens=1)
    print(f"the first constraint of {llama.tokenizer.vocab_size} tokens: {time.perf_counter() - started:.2f} s")
    ways = {
        "free": (None, False),
        "person": (SCHEMAS["person"], False),
        "recursive": (SCHEMAS["recursive"], False),
        "object": ({"type": "object"}, False),
        "person, closing": (SCHEMAS["person"], True),  # all of it near the end of its room
    }
    paces: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (schema, short) in ways.items():
            paces[name].append(pace(llama, schema, tokens, tokens if short else 900))
    base = min(paces["free"])
    for name, times in paces.items():
        print(f"{name:16} {min(times):8.2f} ms/token  {min(times) / base - 1:+.1%}")


def pace(llama: Llama, schema: Any, tokens: int, room: int) -> float:
    """Milliseconds a token of an answer's first tokens, the very first left out."""
    stream = llama.generate([1], json_schema=schema, max_tokens=room, seed=1, temperature=1.0, top_p=1.0, stream=True)
    next(stream)
    started = time.perf_counter()
    count = sum(1 for _ in islice(stream, tokens - 1))
    taken = time.perf_counter() - started
    stream.close()
    return 1e3 * taken / count


def random_llama(folder: Path, tokenizer: Tokenizer) -> Llama:
    """A small Llama of random weights that speaks this vocabulary."""
    config = Config(
        dim=64, layers=2, heads=4, kv_heads=2, head_dim=16, ffn_dim=96, vocab=tokenizer.vocab_size, context=2048
    )
    rng = np.random.default_rng(0)

    def array(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        values = rng.standard_normal(shape, np.float32)
        return np.ones(shape, np.float32) if len(shape) == 1 else values * (1.0 if "embedding" in name else 0.2)

    arrays = {name: array(name, shape) for name, shape in config.shapes().items()}
    path = folder / "random.gguf"
    write_gguf(path, config_to_gguf(config) | tokenizer.to_gguf(), named_tensors(config, arrays, "gguf"))
    return Llama(path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, default=INSIDE, help="a vocabulary (that of the model inside)")
    parser.add_argument("--answers", type=int, default=1000, help="of all schemas together (1000)")
    parser.add_argument(
        "--tokens", type=int, default=200, help="at most, of each answer (200); with --cost, so many are timed"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds (0)")
    parser.add_argument("--cost", action="store_true", help="measure what a schema costs a step")
    parser.add_argument("--shape", default="1b", help="with --cost: the model's shape (1b)")
    parser.add_argument("--mix", default="Q8_0", help="with --cost: its block type (Q8_0)")
    options = parser.parse_args()
    if options.answers < 1 or options.tokens < 1:
        raise SettingError("--answers and --tokens are at least 1")
    return options


if __name__ == "__main__":
    main()
