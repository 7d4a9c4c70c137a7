"""`llamero tokenizer`: learn a vocabulary from text, look at one, or write it in another form."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from llamero.corpus.texts import SEPARATOR, documents, text_files
from llamero.corpus.vocabulary import KINDS, Lesson, learn_tokenizer
from llamero.errors import SettingError
from llamero.formats.lineage import lineage
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.terminal import harmless, note
from llamero.tokenizer.learn_sentencepiece import COVERAGE
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.measure import Economy, economy
from llamero.tokenizer.save import FILES, FORMS, save_tokenizer, write_as
from llamero.tokenizer.tokenizer import Tokenizer

EXAMPLES = """\
examples:
  llamero tokenizer train --text stories.txt --kind llama --vocab 32000 --out my-tokenizer
  llamero tokenizer train --text books/ wiki.jsonl.xz --kind llama3 --vocab 128256 --reserved --out my-tokenizer
  llamero tokenizer show my-tokenizer "How is this cut?"
  llamero tokenizer show model.gguf --text wiki.txt      how many bytes a token stands for
  llamero tokenizer convert model.gguf --to folder --out tokenizer
  llamero tokenizer convert tokenizer.json --to gguf --out vocabulary.gguf

A folder that is written loads in transformers and tokenizers (tokenizer.json, tokenizer_config.json) and in
sentencepiece (tokenizer.model) or tiktoken (tokenizer.tiktoken), with the same ids as here. A .jsonl file has a text on
each line; any other file is text. .gz, .xz and .zst are unpacked. Texts may be larger than memory.
"""
_SHOWN = 20_000_000  # characters of a text that are measured


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    train = _action(actions, "train", "learn a vocabulary from text")
    train.add_argument("--text", type=Path, nargs="+", required=True, metavar="FILE", help="texts, or folders of them")
    kinds = "; ".join(f"{name}: {what}" for name, what in KINDS.items())
    train.add_argument("--kind", default="llama3", metavar="KIND", help=f"{kinds} (llama3)")
    train.add_argument("--vocab", type=int, required=True, metavar="N", help="tokens, special ones included")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    train.add_argument("--special", nargs="+", default=[], metavar="TOKEN", help="more special tokens, as <|tool|>")
    train.add_argument("--reserved", action="store_true", help="llama3: all 256 special tokens of Llama 3.1")
    train.add_argument(
        "--coverage", type=float, default=COVERAGE, metavar="X", help=f"llama: share of characters kept ({COVERAGE})"
    )
    train.add_argument("--template", metavar="NAME", help="chat format, such as llama-3.1 or plain (the kind's own)")
    train.add_argument("--field", default="text", metavar="NAME", help="the text's field in .jsonl files (text)")
    train.add_argument("--separator", default=SEPARATOR, metavar="LINE", help="the line between documents of a text")
    train.add_argument("--licence", action="append", default=[], metavar="NOTE", help="of the texts, for the lineage")
    train.add_argument("--overwrite", action="store_true", help="replace a tokenizer that is in DIR")
    show = _action(actions, "show", "what a tokenizer is, and how it cuts a text")
    show.add_argument("source", metavar="SOURCE", help="a tokenizer's file or folder, or a model's")
    show.add_argument("words", nargs="?", metavar="TEXT", help="show how this is cut")
    show.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="measure on these texts")
    convert = _action(actions, "convert", "write a tokenizer in another form")
    convert.add_argument("source", metavar="SOURCE", help="a tokenizer's file or folder, or a model's")
    convert.add_argument("--to", required=True, metavar="FORM", help=f"folder, {', '.join(FORMS)}")
    convert.add_argument("--out", type=Path, required=True, metavar="PATH", help="the file, or folder, to write")
    convert.add_argument("--overwrite", action="store_true", help="replace what is there")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".", allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error came from")
    return parser


def run(args: argparse.Namespace) -> int:
    """Do one of the three."""
    return {"train": _train, "show": _show, "convert": _convert}[args.action](args)


def _train(args: argparse.Namespace) -> int:
    lesson = Lesson(
        texts=tuple(args.text),
        out=args.out,
        size=args.vocab,
        kind=args.kind,
        specials=tuple(args.special),
        reserved=args.reserved,
        coverage=args.coverage,
        template=args.template,
        field=args.field,
        separator=args.separator,
        licences=tuple(args.licence),
        overwrite=args.overwrite,
    )
    began = monotonic()
    with progress("hashing", "bytes") as hashing, progress("reading", "bytes") as reading:

        def tell(what: str, done: int, total: int) -> None:
            if what == "learning":
                if sys.stderr.isatty():
                    note(f"all is read in {monotonic() - began:.0f} s; learning {args.vocab:,} tokens")
            else:
                (hashing if what == "hashing" else reading)(done, total)

        tokenizer = learn_tokenizer(lesson, tell)
    files = ", ".join(sorted(path.name for path in args.out.iterdir() if path.is_file()))
    print(f"{harmless(str(args.out))}: {_described(tokenizer)}, learnt in {monotonic() - began:.1f} s")
    print(f"  {harmless(files)}")
    print(f"  {_measured(_economy(tokenizer, args.text, args.field, args.separator))}")
    return 0


def _show(args: argparse.Namespace) -> int:
    tokenizer = load_tokenizer(args.source)
    print(_described(tokenizer))
    roles = {"begin": tokenizer.bos_id, "end": tokenizer.eos_id, "end of turn": tokenizer.eot_id}
    roles |= {"unknown": tokenizer.unk_id, "padding": tokenizer.pad_id}
    for role, token in roles.items():
        if token is not None:
            print(f"  {role}: {token} {_piece(tokenizer, token)}")
    if args.words is not None:
        ids = tokenizer.encode(args.words)
        print(f"  {len(ids)} tokens: " + " ".join(f"{_piece(tokenizer, token)}={token}" for token in ids))
    if args.text:
        print(f"  {_measured(_economy(tokenizer, args.text, 'text', SEPARATOR))}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    if args.to != "folder" and args.to not in FORMS:
        raise SettingError(f"there is no form {args.to!r}; choose from folder, {', '.join(FORMS)}")
    there = [args.out / name for name in FILES] if args.to == "folder" else [args.out]
    if not args.overwrite and (old := [path for path in there if path.exists()]):
        raise SettingError(f"{old[0]} is there already; name another, or --overwrite it")
    lineage.check_free(args.out, "tokenizer")
    tokenizer = load_tokenizer(args.source)
    with progress("hashing", "bytes") as bar:
        made_by = lineage.compose("tokenizer", parents=[("tokenizer", Path(args.source))], progress=bar)
    written = save_tokenizer(tokenizer, args.out) if args.to == "folder" else [write_as(tokenizer, args.to, args.out)]
    lineage.write(args.out, made_by)
    print(f"{harmless(str(args.out))}: {_described(tokenizer)} as {', '.join(path.name for path in written)}")
    return 0


def _described(tokenizer: Tokenizer) -> str:
    kind = {"spm": "SentencePiece BPE", "bpe": f"byte-level BPE ({tokenizer.pre})"}[tokenizer.kind]
    return f"{kind}, {tokenizer.vocab_size:,} tokens, {len(tokenizer.special_tokens)} of them special"


def _piece(tokenizer: Tokenizer, token: int) -> str:
    raw = tokenizer.piece(token)
    try:
        return harmless(raw.decode().replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥"))
    except UnicodeDecodeError:
        return "".join(f"<{byte:02X}>" for byte in raw)


def _economy(tokenizer: Tokenizer, texts: Sequence[Path], field: str, separator: str) -> Economy:
    found = documents(text_files(texts), field=field, separator=separator, longest=1 << 20)
    return economy(tokenizer, (document.text for document in found), _SHOWN)


def _measured(found: Economy) -> str:
    return (
        f"{found.bytes_per_token:.2f} bytes a token, {found.tokens_per_word:.2f} tokens a word, "
        f"{found.single_bytes:.2%} of the tokens are single bytes of a character "
        f"(first {found.bytes / 1e6:,.1f} MB of text)"
    )
