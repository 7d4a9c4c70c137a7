"""llamero's server beside llama_cpp.server and llama-server: many users at once, through the OpenAI API.

    python bench/serve.py --users 4,16 --llama-server llama.cpp/build/bin/llama-server --json rows.json

Every user sends one request at the same moment and reads the stream; answers have --answer tokens, prompts 100 to
2,000 (most of them short), and half of each prompt is the beginning of one text that all share. The model has random
weights of true shape, made in --folder when first needed; a peer gets the same file, prompts and bytes over the wire.

columns:
  tokens/s   tokens of all answers / seconds from the first request to the last token
  first      95th percentile of the seconds from a request to its first token
  between    mean, and 95th percentile, of the seconds between a stream's pieces
  longest    the longest silence in any stream that had begun
  read       tokens of prompts that no cache held
  cpu        processor seconds of the server

Contestants take turns for --rounds; --json keeps each one's fastest round, which other programs disturbed least.

`bare` is the engine's scheduler without server and HTTP, in a process of its own: what the server costs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from models import FOLDER, MIXES, SHAPES, model_file
from serve_load import Job, make_prompts
from serve_servers import Bare, Contestant, LlamaCppPython, LlamaServer, Ours

from llamero.model.family import by_name

COLUMNS = ("tokens/s", "first", "between", "between 95%", "longest", "read", "cpu")


def contestants(args: argparse.Namespace) -> list[Contestant]:
    """Who is measured."""
    every: list[Contestant] = [Bare(), Ours()]
    if LlamaCppPython.installed():
        every.append(LlamaCppPython())
    if args.llama_server:
        every.append(LlamaServer(args.llama_server))
    wanted = args.only.split(",") if args.only else [one.name for one in every]
    unknown = sorted(set(wanted) - {one.name for one in every})
    if unknown:
        raise SystemExit(f"{unknown[0]} is not here; there are {', '.join(one.name for one in every)}")
    return [one for one in every if one.name in wanted]


def measure(args: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each contestant and number of users, printed as it comes."""
    model, _ = model_file(args.folder, args.model, args.type, readable=True)
    rows: list[dict[str, object]] = []
    print(f"{'users':>5} {'who':<18}" + "".join(f"{column:>13}" for column in COLUMNS))
    for users in (int(number) for number in args.users.split(",")):
        prompts = make_prompts(model, users, args.seed, args.shortest, args.longest)
        context = min(4096, by_name(SHAPES[args.model]).context)
        job = Job(model, prompts, args.answer, args.threads, context, args.target)
        every = contestants(args)
        rounds = [[_run(one, job, users) for one in every] for _ in range(args.rounds)]
        for one, figures in zip(every, zip(*rounds, strict=True), strict=True):
            rows.append({"users": users, "who": one.name} | max(figures, key=lambda each: each["tokens/s"]))
    return rows


def _run(one: Contestant, job: Job, users: int) -> dict[str, float]:
    figures = one.run(job).figures()
    print(f"{users:>5} {one.name:<18}" + "".join(f"{figures[column]:>13.3f}" for column in COLUMNS), flush=True)
    return figures


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", default="4,16", help="how many at once, separated by commas (4,16)")
    parser.add_argument("--model", default="1b", choices=SHAPES, help="shape of the model (1b)")
    parser.add_argument("--type", default="Q4_K_M", choices=MIXES, help="block type of its weights (Q4_K_M)")
    parser.add_argument("--answer", type=int, default=64, help="tokens of an answer (64)")
    parser.add_argument("--shortest", type=int, default=100, help="tokens of the shortest prompt (100)")
    parser.add_argument("--longest", type=int, default=2000, help="tokens of the longest prompt (2000)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured (1)")
    parser.add_argument("--threads", type=int, default=2, help="of each server (2)")
    parser.add_argument("--target", type=float, help="seconds of our steps (the default of `Limits`); `bare` only")
    parser.add_argument("--only", help="contestants by name, separated by commas (all that are installed)")
    parser.add_argument("--llama-server", type=Path, help="path of llama.cpp's server")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where models are kept ({FOLDER})")
    parser.add_argument("--seed", type=int, default=0, help="of lengths and prompts (0)")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    args = parser.parse_args()
    rows = measure(args)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
