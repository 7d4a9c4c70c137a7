"""The web page at `/`: its files, from memory, with headers that let nothing else run or load.

Model output is a stranger's text. The page builds elements from it and never HTML; should it ever try, the browser
refuses: scripts and styles come from this server's files alone, and with Trusted Types no string becomes HTML.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request, Response

_FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",
}
"""What goes with every file of the page. Browsers keep the files, and ask each time whether they are still good."""


@dataclass(frozen=True)
class File:
    """One of the page's files, and the tag that changes with it."""

    data: bytes
    kind: str
    tag: str


def page_files() -> dict[str, File]:
    """The page's files by the path they are served at."""
    found: dict[str, File] = {}
    for path in sorted(_FOLDER.rglob("*")):
        if path.suffix in _TYPES:
            data = path.read_bytes()
            tag = f'"{sha256(data).hexdigest()[:20]}"'
            found[f"/{path.relative_to(_FOLDER).as_posix()}"] = File(data, _TYPES[path.suffix], tag)
    found["/"] = found.pop("/index.html")
    return found


def page_routes() -> APIRouter:
    """A route for each file. None needs a key: the files hold no secrets, and the page must come before its key."""
    router = APIRouter(include_in_schema=False)
    for path, file in page_files().items():
        router.add_api_route(path, _sender(file), methods=["GET", "HEAD"])
    return router


def _sender(file: File) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        headers = {**HEADERS, "ETag": file.tag}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if file.tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(file.data, media_type=file.kind, headers=headers)  # the server leaves out the body of HEAD

    return send
