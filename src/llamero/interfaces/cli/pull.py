"""`llamero pull`: a model from a hub into the shared cache, going on where an earlier try stopped."""

from __future__ import annotations

import argparse

from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.terminal import note
from llamero.interfaces.hub import plan_pull, pull

EXAMPLES = """\
examples:
  llamero pull bartowski/Llama-3.2-1B-Instruct-GGUF             its Q4_K_M, if there is one
  llamero pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0
  llamero pull TheBloke/Llama-2-7B-GGUF:llama-2-7b.Q2_K.gguf
  llamero pull meta-llama/Llama-3.2-1B-Instruct                 after `hf auth login`

The path is printed at the end; -m NAME finds the model again, offline. `hf cache ls` lists what was fetched, `hf cache
rm` deletes it. HF_HOME says where the cache is, HF_ENDPOINT which hub to ask.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument(
        "name", metavar="NAME[:FILE]", help="owner/name at the hub, with a quantisation or file to pick"
    )
    parser.add_argument("--endpoint", metavar="URL", help="another hub than https://huggingface.co")


def run(args: argparse.Namespace) -> int:
    """Fetch a model and print its path."""
    plan = plan_pull(args.name, endpoint=args.endpoint)
    picked = f" ({plan.choice})" if plan.choice else ""
    note(f"{plan.repo}{picked}: {len(plan.files)} files, {plan.nbytes / 1e6:,.1f} MB")
    with progress("fetching", "bytes") as bar:
        done: dict[str, int] = {}

        def tell(file: str, here: int, _total: int) -> None:
            done[file] = here
            bar(sum(done.values()), plan.nbytes)

        path = pull(plan, endpoint=args.endpoint, progress=tell)
    print(path)
    return 0
