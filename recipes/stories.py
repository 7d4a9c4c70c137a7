"""A whole life on a laptop: from a text file to a Llama that tells stories, in one short program.

    python recipes/stories.py --text stories.txt --out my-llama.gguf

The text's own vocabulary is learnt, a small Llama is trained on it, written as a GGUF file that any runner loads, and
asked for a story. Documents are cut where a line says <|endoftext|>; a file without that line is one document.
With the settings as they are this takes about a quarter of an hour on two cores; --steps 200 gives a first babble.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from llamero import Llama
from llamero.corpus.texts import documents, text_files
from llamero.errors import LlameroError
from llamero.formats.blocks import F16, Q8_0
from llamero.formats.lineage import lineage
from llamero.model.config import Config
from llamero.ops.torch_ops import TorchOps
from llamero.tokenizer.learn import learn
from llamero.tokenizer.tokenizer import Tokenizer
from llamero.training.data.batches import Batches
from llamero.training.data.tokens import Tokens
from llamero.training.export import export
from llamero.training.loop import Report, Run, Settings
from llamero.training.optimizer import Constants
from llamero.training.parameters import arrays, fresh, weights
from llamero.training.pretrain import NextToken
from llamero.training.schedule import Cosine

STORIES = Path(__file__).parents[2] / "shared/data/text_en/tinystories/train_10k_lines.txt.xz"


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    files = text_files(options.text)
    texts = [document.text for document in documents(files)]
    made_by = lineage.compose("model", parents=[("text", file) for file in files], settings=vars(options))
    config = Config(
        dim=options.dim,
        layers=options.layers,
        heads=options.dim // 32,
        kv_heads=options.dim // 32,
        head_dim=32,
        ffn_dim=options.dim * 3,
        vocab=options.vocab,
        context=options.context,
        tied=True,
    )
    path = live(
        texts,
        config,
        options.out,
        steps=options.steps,
        seed=options.seed,
        device=options.device,
        tell=say,
        about=lineage.inside(options.out, made_by),
    )
    with Llama(path) as llama:
        print(options.prompt + llama.generate(options.prompt, max_tokens=150, temperature=0.7, seed=options.seed).text)


def live(
    texts: Sequence[str],
    config: Config,
    out: Path,
    *,
    steps: int,
    sequences: int = 16,
    rate: float = 2e-3,
    seed: int = 0,
    device: str = "cpu",
    folder: Path | None = None,
    tell: Callable[[Report], None] | None = None,
    about: Mapping[str, str] | None = None,
) -> Path:
    """Learn a vocabulary, train a Llama and write it; the same call gives the same file.

    sequences: windows of one step, of `config.context` tokens each. rate: the peak learning rate. folder: where the
    run is saved, to be gone on with by the same call. tell: told of every step.
    about: more of the file's metadata.
    """
    tokenizer = Tokenizer(learn(texts, config.vocab))
    ids = np.concatenate([tokenizer.encode_document(text) for text in texts]).astype(np.uint32)
    batches = Batches(Tokens.of(ids), context=config.context, sequences=sequences, seed=seed)
    parameters = fresh(config, seed, device)
    objective = NextToken(TorchOps(device), weights(config, parameters))
    # epsilon: gradients of small models are small, and the papers' 1e-5 would slow them
    settings = Settings(Cosine(rate, steps, warmup=min(100, steps // 10)), Constants(epsilon=1e-8), save_every=500)
    Run(parameters, objective, batches, settings, folder).train(tell)
    blocks = config.dim % 32 == config.ffn_dim % 32 == config.heads * config.head_dim % 32 == 0
    named = tokenizer.to_gguf() | {"general.name": out.stem} | dict(about or {})
    return export(out, config, arrays(parameters), named, Q8_0 if blocks else F16)


def say(report: Report) -> None:
    """Print every 25th step."""
    if report.step % 25 == 0:
        speed = report.tokens / report.seconds
        print(
            f"step {report.step:5}  loss {report.loss:.3f}  rate {report.rate:.1e}  {speed:,.0f} tokens/s", flush=True
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", default=[STORIES], help="UTF-8 texts, or folders of them")
    parser.add_argument("--out", type=Path, default=Path("my-llama.gguf"), help="the file to write")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--vocab", type=int, default=2048, help="tokens of the vocabulary")
    parser.add_argument("--dim", type=int, default=128, help="width, a multiple of 32")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--context", type=int, default=256, help="tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of the CPU; default: all")
    parser.add_argument("--prompt", default="Once upon a time", help="how the story begins")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except LlameroError as error:
        raise SystemExit(f"error: {error}") from error
