"""What a server writes down: one line for each request, and what goes wrong. Never a prompt or a key, unless asked.

The path is noted without its query, the asker by the name of the key. Each request has an id, the client's own if it
sends a sound one; the answer carries it too.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Literal

from llamero.interfaces.server.counts.metrics import route_of
from llamero.interfaces.server.door.asgi import App, Message, Receive, Scope, Send

LOGGER = "llamero.serve"
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}
_QUIET = frozenset({"/health", "/metrics"})  # asked every few seconds by machines; noted at level debug
_MOST_LOGGED = 1 << 20  # bytes of a request with --log-prompts


def configure_logs(form: Literal["plain", "json"] = "plain", level: str = "info") -> None:
    """Send llamero's and uvicorn's log to stderr. Called by commands, never by the library."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Plain())
    for name in ("llamero", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.propagate = name == "uvicorn.error"
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


class Logged:
    """ASGI middleware, the outermost: gives a request its id and writes its line when it is over."""

    def __init__(self, app: App, *, prompts: bool = False) -> None:
        """prompts: write down what was asked, too."""
        self._app, self._prompts = app, prompts
        self._log = logging.getLogger(LOGGER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request = given if _ID.fullmatch(given) else b"req_" + secrets.token_hex(12).encode()
        scope.setdefault("state", {})["request_id"] = request.decode()
        line = _Line(send, request)
        asked = bytearray()
        receiving = _listening(receive, asked) if self._prompts else receive
        try:
            await self._app(scope, receiving, line)
        finally:
            self._write(scope, line, bytes(asked))

    def _write(self, scope: Scope, line: _Line, asked: bytes) -> None:
        state = scope["state"]
        said: dict[str, Any] = {
            "request_id": state["request_id"],
            "method": scope["method"],
            "path": _shown(scope),
            "status": line.status,
            "seconds": round(perf_counter() - line.started, 4),
            "bytes": line.sent,
            "key": state.get("owner", ""),
            "route": route_of(scope),
        }
        said |= {name: state[name] for name in ("model", "prompt_tokens", "completion_tokens") if name in state}
        if not line.whole:
            said["cut"] = True  # the client left, or was cut off
        if self._prompts and asked:
            said["asked"] = asked[:_MOST_LOGGED].decode("utf-8", "replace")
        level = logging.DEBUG if scope["path"] in _QUIET and line.status == 200 else logging.INFO
        self._log.log(level, "request", extra=said)


class _Line:
    """A `send` that remembers what a log line needs, and adds the request's id to the answer."""

    def __init__(self, send: Send, request: bytes) -> None:
        self._send, self._request = send, request
        self.started, self.status, self.sent, self.whole = perf_counter(), 0, 0, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            ids = [(b"x-request-id", self._request), (b"request-id", self._request)]
            message = {**message, "headers": [*message.get("headers", ()), *ids]}
        else:
            self.sent += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
        await self._send(message)


def _listening(receive: Receive, asked: bytearray) -> Receive:
    async def receiving() -> Message:
        message = await receive()
        asked.extend(message.get("body", b"")[: _MOST_LOGGED - len(asked)])
        return message

    return receiving


def _shown(scope: Scope) -> str:
    """The path as it was sent, without its query, fit for one line."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    return raw.partition(b"?")[0][:200].decode("ascii", "backslashreplace")


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _stamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        said = {"time": _stamp(record), "level": record.levelname.lower(), "event": record.getMessage()}
        said |= _extras(record)
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)  # ASCII alone: nothing in it can act on a terminal


class _Plain(logging.Formatter):
    """For people: time, level, what, and the rest as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        more = " ".join(f"{name}={_word(value)}" for name, value in _extras(record).items() if value not in ("", None))
        text = f"{_stamp(record)} {record.levelname.lower():7} {record.getMessage()} {more}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _word(value: Any) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text, ensure_ascii=True)
