"""`llamero keys`: make, list and revoke the keys that open a server."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from llamero.interfaces.cli.terminal import note, write
from llamero.interfaces.server.door.keys import KeyFile, default_path

EXAMPLES = """\
examples:
  llamero keys create alice                     prints the key, once; the file holds only its hash
  llamero keys list
  llamero keys revoke alice                     servers that run refuse it from the next request on
  llamero keys create bob --keys /etc/llamero/keys.json

A server that is started while the file has keys asks for them. Clients send theirs as `Authorization: Bearer KEY`, or
as `x-api-key: KEY`. Answers to different keys share no cached beginnings.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("action", choices=("create", "list", "revoke"), help="what to do")
    parser.add_argument("name", nargs="?", help="whose key: letters, digits, and . _ @ -")
    add_keys_option(parser)


def add_keys_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """--keys FILE."""
    parser.add_argument(
        "--keys", type=Path, metavar="FILE", help="the file of keys (llamero/keys.json in the user's configuration)"
    )


def key_file(given: Path | None) -> KeyFile:
    """The file of keys that the options name."""
    return KeyFile(given.expanduser() if given else default_path(os.environ))


def run(args: argparse.Namespace) -> int:
    """Make, list or revoke."""
    file = key_file(args.keys)
    if args.action == "list":
        if args.name is not None:
            note("[list shows all keys]")
        for key in file.read():
            write(f"{key.name:24} {key.created}\n")
        if not file.read():
            note(f"[there are no keys in {file.path}; make one: llamero keys create NAME]")
        return 0
    if args.name is None:
        note(f"llamero keys: whose key? llamero keys {args.action} NAME")
        return 2
    if args.action == "create":
        write(file.create(args.name) + "\n")
        note(f"[the key of {args.name!r}; it is shown only now. {file.path} holds its hash]")
        return 0
    file.revoke(args.name)
    note(f"[{args.name!r} has no key any more]")
    return 0
