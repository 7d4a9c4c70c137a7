"""`llamero serve`: a model behind an HTTP API."""

from __future__ import annotations

import argparse

from llamero.interfaces.cli.options import add_model_options, load
from llamero.interfaces.cli.terminal import note

EXAMPLES = """\
examples:
  llamero serve
  llamero serve -m instruct.gguf --port 8000
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{"messages": [{"role": "user", "content": "Tell me a story."}]}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="the port to listen on; 0 takes a free one (8000)")
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Answer until interrupted."""
    import uvicorn

    from llamero.interfaces.server.app import make_app
    from llamero.interfaces.server.library import Library

    with load(args) as llama:
        note(f"[answering at http://{args.host}:{args.port}/v1]")
        uvicorn.run(make_app(Library(llama)), host=args.host, port=args.port, log_level="warning")
    return 0
