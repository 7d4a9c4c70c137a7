"""`llamero serve`: models behind an HTTP API, until it is told to stop."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from llamero.interfaces.cli.guessing import add_guessing_options
from llamero.interfaces.cli.keys import add_keys_option
from llamero.interfaces.cli.quantities import duration, size

EXAMPLES = """\
examples:
  llamero serve                                             the model inside, for this machine alone
  llamero serve -m instruct.gguf --port 8000
  llamero serve -m small=1b.gguf -m large=8b.gguf --memory 12G --keep-alive 10m
  llamero serve --models ~/models -m bartowski/Llama-3.2-1B-Instruct-GGUF
  llamero serve -m base.gguf --lora polite=adapter.gguf     ask for model base:polite
  llamero keys create alice && llamero serve --host 0.0.0.0 --allow-host llm.example.org
  llamero serve --replicas 2 --log-format json
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{"model": "instruct", "messages": [{"role": "user", "content": "Tell me a story."}]}'

Ctrl-C or SIGTERM: answers at work may end (--drain-timeout); a second one ends at once.
LLAMERO_API_KEY is one more key. docs/serving.md says more.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    _add_models(parser.add_argument_group("models"))
    _add_network(parser.add_argument_group("network"))
    _add_door(parser.add_argument_group("who may ask"))
    _add_limits(parser.add_argument_group("limits"))
    _add_operations(parser.add_argument_group("operations"))


def run(args: argparse.Namespace) -> int:
    """Answer until told to stop."""
    from llamero.interfaces.cli.serving import serve  # only here: a server's parts take a moment to import

    return serve(args, os.environ)


def _add_models(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-m",
        "--model",
        action="append",
        default=[],
        metavar="[NAME=]MODEL",
        help="a file, a folder of weights, or a pulled name; may be repeated (the model inside)",
    )
    group.add_argument(
        "--models", action="append", default=[], type=Path, metavar="FOLDER", help="offer all models in a folder"
    )
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="[MODEL:]NAME=PATH[:SCALE]",
        help="a LoRA adapter, asked for as MODEL:NAME; may be repeated",
    )
    group.add_argument("--context", type=int, metavar="N", help="tokens an answer may see (its own, at most 8192)")
    group.add_argument("--room", type=int, metavar="N", help="tokens of all answers of a model (four contexts)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (one per core)")
    group.add_argument("--device", default="cpu", metavar="cpu|cuda", help="where models run (cpu); cuda needs torch")
    group.add_argument("--deterministic", action="store_true", help="the same bits in any company; slower prompts")
    group.add_argument("--cache", default="f16", choices=("f16", "f32", "q8_0"), help="how the past is kept (f16)")
    group.add_argument("--chat-template", metavar="NAME", help="a chat format such as llama-3.1, for all (their own)")
    add_guessing_options(group)
    group.add_argument("--memory", type=size, metavar="SIZE", help="of all models: weights and caches (9/10 of all)")
    group.add_argument("--keep-alive", type=duration, metavar="TIME", help="let go of models idle so long (never)")


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1: this machine alone)")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, default=8000, help="the port to listen on; 0 takes a free one (8000)")
    where.add_argument("--unix-socket", type=Path, metavar="PATH", help="listen there instead, for a proxy")
    group.add_argument("--ssl-certfile", type=Path, metavar="PEM", help="https: the certificate")
    group.add_argument("--ssl-keyfile", type=Path, metavar="PEM", help="https: its private key")


def _add_door(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--api-key", action="append", default=[], metavar="KEY", help="a key that opens; `ps` shows it, a file does not"
    )
    add_keys_option(group)
    group.add_argument("--no-auth", action="store_true", help="ask for no keys, even for other machines")
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="another name that this server is called by"
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="a web site whose pages may ask, such as https://app.example.org",
    )
    group.add_argument(
        "--share-prefixes", action="store_true", help="let answers to different keys share cached beginnings"
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--parallel", type=int, default=64, metavar="N", help="answers of a model at work at once (64)")
    group.add_argument("--queue", type=int, default=256, metavar="N", help="how many more may wait for each (256)")
    group.add_argument("--max-connections", type=int, default=512, metavar="N", help="at once (512)")
    group.add_argument("--max-body", type=size, default=2 << 20, metavar="SIZE", help="of a request (2M)")
    group.add_argument("--body-timeout", type=duration, default=60.0, metavar="TIME", help="to send a request (1m)")
    group.add_argument("--request-timeout", type=duration, default=3600.0, metavar="TIME", help="to answer it (1h)")
    group.add_argument(
        "--send-timeout", type=duration, default=60.0, metavar="TIME", help="for a reader who stalls (1m)"
    )


def _add_operations(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--replicas", type=int, default=1, metavar="N", help="processes that share the socket (1)")
    group.add_argument("--drain-timeout", type=duration, default=30.0, metavar="TIME", help="for answers at work (30s)")
    group.add_argument("--log-format", default="plain", choices=("plain", "json"), help="of the log on stderr (plain)")
    group.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"), help="(info)")
    group.add_argument("--log-prompts", action="store_true", help="write down what is asked; never done otherwise")
