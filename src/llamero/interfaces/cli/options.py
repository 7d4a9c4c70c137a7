"""The options that `run` and `chat` share: which model, how it is loaded, how it chooses its words."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from llamero.errors import SettingError
from llamero.interfaces.adapters import parse_source
from llamero.interfaces.cli.guessing import add_guessing_options
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.llama import Llama

_ADAPTER = "lora"  # the name of what --lora gives

SAMPLING: dict[str, tuple[type, str]] = {
    "temperature": (float, "0 always takes the likeliest token, higher is wilder (0.6)"),
    "top_k": (int, "choose among the K likeliest tokens (0: off)"),
    "top_p": (float, "choose among the likeliest tokens that hold this probability (0.9; 1: off)"),
    "min_p": (float, "leave out tokens below this share of the likeliest one's probability (0: off)"),
    "typical_p": (float, "choose among the most typical tokens that hold this probability (1: off)"),
    "repeat_penalty": (float, "make recent tokens less likely (1: off)"),
    "repeat_last_n": (int, "how many tokens are recent (64)"),
    "presence_penalty": (float, "make tokens of the answer less likely, once (0: off)"),
    "frequency_penalty": (float, "make tokens of the answer less likely, for each use (0: off)"),
    "seed": (int, "repeat an answer: the same seed gives the same words (drawn anew)"),
}


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """-m and everything about loading."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "-m", "--model", metavar="MODEL", help="a GGUF file, a folder of weights, or a pulled name (the model inside)"
    )
    group.add_argument("--context", type=int, metavar="N", help="tokens it may see at once (its own, at most 8192)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (one per core)")
    group.add_argument("--device", default="cpu", metavar="cpu|cuda", help="where it runs (cpu); cuda needs torch")
    group.add_argument(
        "--deterministic", action="store_true", help="the same bits however a prompt is read; slower prompts (cpu)"
    )
    group.add_argument("--cache", default="f16", choices=("f16", "f32", "q8_0"), help="how the past is kept (f16)")
    add_guessing_options(group)
    group.add_argument("--tokenizer", metavar="PATH", help="a tokenizer, for files that bring none")
    group.add_argument("--chat-template", metavar="NAME", help="a chat format such as llama-3.1 or plain (its own)")


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """Everything about the answer."""
    group = parser.add_argument_group("answer")
    group.add_argument("-n", "--max-tokens", type=int, metavar="N", help="write at most so many tokens")
    group.add_argument(
        "--stop", action="append", metavar="TEXT", help="end the answer before this text; may be repeated"
    )
    group.add_argument(
        "--lora",
        action="append",
        metavar="PATH[:SCALE]",
        help="write with a LoRA adapter: a folder that PEFT saved, or a GGUF adapter; several are mixed",
    )
    group.add_argument(
        "--overflow",
        default="error",
        choices=("error", "truncate", "shift"),
        help="when the tokens do not fit the context: refuse (default), leave out the oldest, or keep doing so",
    )
    for name, (kind, what) in SAMPLING.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X" if kind is float else "N", help=what)


def add_form_options(parser: argparse.ArgumentParser) -> None:
    """What form the answer is to have."""
    group = parser.add_argument_group("form of the answer").add_mutually_exclusive_group()
    group.add_argument("--json-schema", metavar="FILE|JSON", help="JSON of this schema: a file, or the schema itself")
    group.add_argument("--regex", metavar="REGEX", help="a text that this regular expression matches from end to end")
    group.add_argument("--grammar", metavar="FILE", help="a text of this grammar: Lark, or GBNF as llama.cpp reads it")


def form_options(args: argparse.Namespace) -> dict[str, Any]:
    """The form that was asked for, by its name in Python. Raises SettingError for a schema that is no JSON."""
    if args.json_schema is not None:
        return {"json_schema": _schema(args.json_schema)}
    if args.grammar is not None:
        return {"grammar": _read(args.grammar)}
    return {} if args.regex is None else {"regex": args.regex}


def _schema(source: str) -> Any:
    text = source if source.lstrip().startswith(("{", "[")) else _read(source)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(
            f"--json-schema: {'' if text is source else source + ': '}this is no JSON: {error}"
        ) from None
    if not isinstance(schema, dict):
        raise SettingError(f"--json-schema: a schema is a JSON object, not {type(schema).__name__}")
    return schema


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}") from None


def load(args: argparse.Namespace) -> Llama:
    """The model that the options name."""
    lora = vars(args).get("lora")
    with progress("loading", "bytes") as bar:
        return Llama(
            args.model,
            context=args.context,
            threads=args.threads,
            device=args.device,
            deterministic=args.deterministic,
            cache=args.cache,
            tokenizer=args.tokenizer,
            chat_template=args.chat_template,
            draft=args.draft,
            speculate=args.speculate,
            adapters={_ADAPTER: [parse_source(source) for source in lora]} if lora else None,
            progress=bar,
        )


def answer_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options about the answer that were given, by their names in Python."""
    given = {name: getattr(args, name) for name in (*SAMPLING, "max_tokens", "stop", "overflow")}
    chosen = {name: value for name, value in given.items() if value is not None}
    return chosen | {"adapter": _ADAPTER} if args.lora else chosen
