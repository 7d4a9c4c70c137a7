"""`llamero run`: one prompt in, its continuation out. Words go to stdout, figures to stderr."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llamero.errors import SettingError
from llamero.interfaces.cli.options import (
    add_answer_options,
    add_form_options,
    add_model_options,
    answer_options,
    form_options,
    load,
)
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.terminal import figures, note, write
from llamero.interfaces.completion import Completion, Stream
from llamero.interfaces.llama import Llama

EXAMPLES = """\
examples:
  llamero run "Once upon a time" --max-tokens 60
  llamero run -m model.gguf "The capital of Peru is" --max-tokens 20 --temperature 0
  llamero run -m instruct.gguf --chat "What is the capital of Peru?"
  llamero run -m model.gguf -f long.txt --context 32768 --overflow truncate
  git diff | llamero run -m instruct.gguf --chat --system "Write a commit message for this diff." -
  llamero run -m instruct.gguf --chat "Who wrote Moby Dick?" --json-schema author.json
  llamero run -m model.gguf "Dear diary," --json --seed 7 | jq .text
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("prompt", nargs="?", help="the text to continue; - reads it from standard input")
    parser.add_argument("-f", "--file", metavar="FILE", help="read the prompt from a file, less its last newline")
    parser.add_argument("--chat", action="store_true", help="answer as an assistant, in the model's chat format")
    parser.add_argument("--system", metavar="TEXT", help="with --chat: how the assistant is to behave")
    parser.add_argument("--special", action="store_true", help="read <|eot_id|> and its like in the prompt as tokens")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of words")
    parser.add_argument("--quiet", action="store_true", help="print no figures")
    add_model_options(parser)
    add_answer_options(parser)
    add_form_options(parser)


def run(args: argparse.Namespace) -> int:
    """Answer one prompt."""
    prompt = _prompt(args)
    if args.system is not None and not args.chat:
        raise SettingError("--system belongs to --chat")
    if args.special and args.chat:
        raise SettingError("--special is for a text; in a chat, the format alone says where special tokens stand")
    options = answer_options(args) | form_options(args)
    with load(args) as llama:
        if not args.quiet and llama.context < llama.config.context and args.context is None:
            note(f"[context {llama.context} of the model's {llama.config.context} tokens; --context N asks for more]")
        with progress("reading the prompt", "tokens") as bar:
            stream = _start(llama, args, prompt, options | {"progress": bar})
            first = next(stream, None)
        if args.json:
            for _ in stream:
                pass
            print(json.dumps(_as_json(stream.completion), ensure_ascii=False))
            return 0
        _tell(first, stream)
        if not args.quiet:
            if not args.chat and stream.completion.finish_reason == "stop" and not stream.completion.completion_tokens:
                note("[the text ends here for the model; to be answered as by an assistant, ask with --chat]")
            note(figures(stream.completion, llama.context))
    return 0


def _prompt(args: argparse.Namespace) -> str:
    if args.prompt is not None and args.file is not None:
        raise SettingError("give the prompt as words or as a file, not both")
    source = args.file if args.file is not None else args.prompt
    if source is None and sys.stdin.isatty():
        raise SettingError("there is no prompt; give some words, -f FILE, or - to read standard input")
    if source is None or source == "-":
        return _without_last_newline(sys.stdin.buffer.read().decode("utf-8", "replace"))
    if args.file is None:
        return str(source)
    return _without_last_newline(Path(source).read_text(encoding="utf-8", errors="replace"))


def _without_last_newline(text: str) -> str:
    """Editors and `echo` end a text with a newline that is no part of a prompt."""
    return text.removesuffix("\n")


def _start(llama: Llama, args: argparse.Namespace, prompt: str, options: dict[str, Any]) -> Stream:
    if not args.chat:
        return llama.generate(prompt, stream=True, special=args.special, **options)
    messages = [{"role": "user", "content": prompt}]
    if args.system is not None:
        messages.insert(0, {"role": "system", "content": args.system})
    return llama.chat(messages, stream=True, **options)


def _tell(first: str | None, stream: Stream) -> None:
    """Write the pieces, and end the line on a terminal or where the words did not."""
    last = first or ""
    write(last)
    try:
        for piece in stream:
            write(piece)
            last = piece or last
    finally:
        if not last.endswith("\n"):
            write("\n")


def _as_json(answer: Completion) -> dict[str, Any]:
    return asdict(answer)
