"""Who may come in: every request passes here first, and what is not plainly allowed is refused.

Asked in order: are the headers sound, is the server called by a name of its own (against DNS rebinding), does a page
of another origin ask (against cross-site requests), is there a key. Only `/health` and the files of the web page need
no key: a browser cannot send one when it opens a page, and these files are the same in every copy of llamero; all that
is worth knowing comes from routes that need one.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from llamero.errors import LlameroError, SettingError
from llamero.interfaces.server.door.asgi import App, Header, Message, Receive, Scope, Send, header, turn_away
from llamero.interfaces.server.door.keys import Keys
from llamero.interfaces.server.refusals import Refusal

_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s*?#]+")
_ONCE = (b"host", b"origin", b"authorization", b"x-api-key", b"content-length", b"content-type", b"transfer-encoding")
_MOST_HEADERS = 100
_HEADER_BYTES = 16 << 10
_TARGET_BYTES = 8 << 10
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
    (b"access-control-max-age", b"600"),
)
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DATA_POLICY = b"default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the operator allows.

    hosts: names the server may be called by, besides localhost and any address in numbers (nobody can rebind those).
    origins: of web pages that may ask from a browser, as `https://name[:port]`; the server's own always may.
    page: the paths of the web page's files. open: other paths that need no key.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    page: frozenset[str] = frozenset()
    open: frozenset[str] = field(default=frozenset({"/health"}))

    def __post_init__(self) -> None:
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise SettingError(
                    f"{origin!r} is no origin: give a scheme and a host, such as https://app.example.org, one by one"
                )
        for host in self.hosts:
            if not _HOST.fullmatch(host.encode("utf-8", "replace")) or ":" in host:
                raise SettingError(f"{host!r} is no host name: give it without scheme and port, such as example.org")

    def is_page(self, method: str, path: str) -> bool:
        """Whether a file of the web page is asked for."""
        return method in ("GET", "HEAD") and path in self.page


class Guard:
    """ASGI middleware that lets in what the rules allow, and tells the app who asks.

    `state["owner"]` is the name of the key: the queue is fair between owners, and each has its own cached beginnings.
    """

    def __init__(self, app: App, rules: Rules, keys: Keys | None) -> None:
        """keys: None where the operator asked for no keys."""
        self._app, self._rules, self._keys = app, rules, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # a web socket: there is no route for one
            return await send({"type": "websocket.close", "code": 1008})
        origin = header(scope, b"origin")
        own = _is_own(origin, header(scope, b"host"))
        told = origin.decode("latin-1") in self._rules.origins and not own
        send = _with_headers(send, cross=origin if told else None)
        refusal = _unsound(scope) or self._wrong_host(scope) or self._cross_site(scope, own or told)
        if refusal is None and told and _is_preflight(scope):  # browsers ask without the key
            return await _allow(scope, send)
        refusal = refusal or self._no_key(scope)
        if refusal is not None:
            return await turn_away(refusal, scope, send)
        return await self._app(scope, receive, send)

    def _wrong_host(self, scope: Scope) -> Refusal | None:
        match = _HOST.fullmatch(header(scope, b"host"))
        if match is None:
            return Refusal(400, "the request needs one Host header with the name of this server", code="bad_host")
        name = match[1].decode().lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost") or name in self._rules.hosts or _is_address(name):
            return None
        message = f"this server is not called {name!r}; its operator can allow it: --allow-host {name}"
        return Refusal(421, message, code="unknown_host")

    def _cross_site(self, scope: Scope, known: bool) -> Refusal | None:
        """What a browser sends for another site's page: an Origin that is not ours, or Sec-Fetch-Site says so.

        known: the request's origin is the server's own or an allowed one.
        """
        origin, site = header(scope, b"origin"), header(scope, b"sec-fetch-site")
        if known or (not origin and site in (b"", b"same-origin", b"none")):
            return None
        followed = header(scope, b"sec-fetch-mode") == b"navigate" and not origin
        if followed and self._rules.is_page(scope["method"], scope["path"]):  # a link to the page
            return None
        where = origin.decode("latin-1") if origin else "another site"
        message = f"pages of {where} may not ask here; the operator can allow it: --allow-origin"
        return Refusal(403, message, code="cross_site_request")

    def _no_key(self, scope: Scope) -> Refusal | None:
        """None when the request has a key, or needs none; the key's name is noted as the owner."""
        state = scope.setdefault("state", {})
        state["owner"] = ""
        if self._keys is None:
            return None
        if scope["path"] in self._rules.open or self._rules.is_page(scope["method"], scope["path"]):
            return None
        bearer, other = header(scope, b"authorization"), header(scope, b"x-api-key")
        scheme, _, token = bearer.partition(b" ")
        given = [token.strip()] if scheme.lower() == b"bearer" else []
        given += [other] if other else []
        try:
            owners = [self._keys.owner(key.decode("latin-1")) for key in given]
        except (LlameroError, OSError):  # damaged, or no longer private: nobody is let in
            message = "the server cannot read its keys; see `llamero keys list`"
            return Refusal(503, message, "server_error", "keys_unreadable")
        owner = next((name for name in owners if name is not None), None)
        if owner is None:
            said = "the key is not known here" if given else "this server asks for a key"
            message = f"{said}: send one as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'"
            return Refusal(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        state["owner"] = owner
        return None


def _unsound(scope: Scope) -> Refusal | None:
    """Too many headers, too long ones, or two where there may be one; a path that climbs."""
    headers: list[Header] = scope["headers"]
    if len(headers) > _MOST_HEADERS or sum(len(name) + len(value) for name, value in headers) > _HEADER_BYTES:
        message = f"the request's headers are too large: at most {_MOST_HEADERS}, with {_HEADER_BYTES} bytes in all"
        return Refusal(431, message, code="headers_too_large")
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            return Refusal(400, f"the header {name.decode()} may be there only once", code="repeated_header")
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _TARGET_BYTES:
        return Refusal(414, f"the address is longer than {_TARGET_BYTES} bytes", code="uri_too_long")
    path: str = scope["path"]
    if ".." in path.split("/") or "\\" in path or "//" in path or not path.isprintable():
        return Refusal(400, "the path may not have '..', '//', backslashes or control characters", code="bad_path")
    return None


def _is_own(origin: bytes, host: bytes) -> bool:
    """Whether a page of this very server asks: the origin's host and port are those it was called by."""
    scheme, _, place = origin.partition(b"://")
    return bool(host) and scheme in (b"http", b"https") and place.lower() == host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") != b""


async def _allow(scope: Scope, send: Send) -> None:
    """Answer a browser that asks beforehand whether a page may ask."""
    wanted = header(scope, b"access-control-request-headers")
    headers = [*_PREFLIGHT, (b"content-length", b"0")]
    if wanted:
        headers.append((b"access-control-allow-headers", wanted))
    if header(scope, b"access-control-request-private-network") == b"true":
        headers.append((b"access-control-allow-private-network", b"true"))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _with_headers(send: Send, cross: bytes | None) -> Send:
    """Every answer says how a browser is to treat it; a route's own word goes first. cross: the allowed origin."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            page = next((value for name, value in headers if name.lower() == b"content-type"), b"")
            wanted = [
                (b"x-content-type-options", b"nosniff"),
                (b"content-security-policy", _PAGE_POLICY if page.startswith(b"text/html") else _DATA_POLICY),
                (b"referrer-policy", b"no-referrer"),
                (b"x-frame-options", b"DENY"),
                (b"cache-control", b"no-store"),
                (b"cross-origin-resource-policy", b"cross-origin" if cross else b"same-origin"),
                (b"vary", b"Origin"),
            ]
            if cross:
                wanted.append((b"access-control-allow-origin", cross))
                wanted.append((b"access-control-expose-headers", b"x-request-id, request-id, retry-after"))
            message = {**message, "headers": headers + [pair for pair in wanted if pair[0] not in present]}
        await send(message)

    return sending
