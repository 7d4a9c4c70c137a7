"""The guard: every way in that is not plainly allowed is closed, and says how its operator can open it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import SettingError
from llamero.interfaces.server.door.guard import Guard, Rules
from llamero.interfaces.server.door.keys import KeyFile, Keys

KEYS = Keys({"alice": "alice-secret-1", "bob": "bob-secret-22"})


@pytest.fixture
def get(ask: Any, echo: Any) -> Any:
    """Asks behind a guard with these rules."""

    def get(
        *headers: tuple[str, str], path: str = "/v1/models", method: str = "GET", keys: Keys | None = None, **rules: Any
    ) -> Any:
        guard = Guard(echo, Rules(page=frozenset({"/", "/main.js"}), **rules), keys)
        return asyncio.run(ask(guard, path, [(n.encode(), v.encode()) for n, v in headers], method))

    return get


@pytest.mark.parametrize(
    "header",
    [
        ("authorization", "Bearer alice-secret-1"),
        ("authorization", "bearer alice-secret-1"),
        ("x-api-key", "alice-secret-1"),
    ],
)
def test_a_key_opens_and_names_its_owner(get: Any, header: tuple[str, str]) -> None:
    assert get(header, keys=KEYS).json["owner"] == "alice"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer alice-secret-")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic alice-secret-1")],
        [("authorization", "alice-secret-1")],
        [("x-api-key", "")],
        [("x-api-key", "nobody")],
        [("cookie", "key=alice-secret-1")],
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "/openapi.json", "/docs", "/nowhere", "/health/", "/HEALTH"]
)
def test_without_a_key_all_is_closed(get: Any, headers: list[tuple[str, str]], path: str) -> None:
    answer = get(*headers, path=path, keys=KEYS)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert b"secret" not in answer.body


def test_only_health_and_the_files_of_the_page_need_no_key(get: Any) -> None:
    for path in ("/health", "/", "/main.js"):
        assert get(path=path, keys=KEYS).status == 200
    assert get(path="/", method="POST", keys=KEYS).status == 401
    assert get(path="/main.js", method="POST", keys=KEYS).status == 401
    assert get(path="/main.js/", keys=KEYS).status == 401


@pytest.mark.parametrize("path", ["/main.js/../v1/models", "//v1/models", "/main.js\\..\\v1", "/main.js\n", "/\x00"])
def test_paths_that_climb_are_refused(get: Any, path: str) -> None:
    assert get(path=path, keys=KEYS).status == 400


def test_keys_that_cannot_be_read_open_nothing(get: Any, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    key = file.create("alice")
    file.path.write_text("{")
    answer = get(("x-api-key", key), keys=Keys(None, file))
    assert answer.status == 503
    assert str(tmp_path) not in answer.body.decode()
    file.path.unlink()  # all keys gone: closed, not open
    assert get(("x-api-key", key), keys=Keys(None, file)).status == 401


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "192.168.1.5", "a.localhost"]
)
def test_own_hosts(get: Any, host: str) -> None:
    assert get(("host", host)).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:8000", 421),
        ("evil.example#localhost", 400),
        ("localhost@evil.example", 400),
        ("user:pass@localhost", 400),
        ("", 400),
        ("localhost, evil.example", 400),
        ("2130706433x", 421),
    ],
)
def test_other_hosts_are_refused(get: Any, host: str, status: int) -> None:
    """DNS rebinding: a name of the attacker's that points here."""
    assert get(("host", host)).status == status


def test_hosts_that_the_operator_allows(get: Any) -> None:
    assert get(("host", "llm.example.org:443"), hosts=frozenset({"llm.example.org"})).status == 200
    assert get(("host", "LLM.example.org."), hosts=frozenset({"llm.example.org"})).status == 200


def test_two_hosts_are_one_too_many(get: Any) -> None:
    assert get(("host", "localhost"), ("host", "evil.example")).status == 400


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "origin", "content-length", "transfer-encoding"])
def test_headers_that_may_be_there_once(get: Any, name: str) -> None:
    answer = get((name, "1"), (name, "1"))
    assert (answer.status, answer.error["code"]) == (400, "repeated_header")


def test_headers_too_many_or_too_large(get: Any) -> None:
    assert get(*[(f"x-{n}", "1") for n in range(200)]).status == 431
    assert get(("x-large", "a" * 20000)).status == 431
    assert get(path="/" + "a" * 9000).status == 414


@pytest.mark.parametrize(
    "headers",
    [
        [("origin", "https://evil.example")],
        [("origin", "null")],
        [("origin", "http://localhost:9999")],
        [("origin", "http://localhost:8000.evil.example")],
        [("origin", "file://")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_sites_are_refused(get: Any, headers: list[tuple[str, str]], method: str) -> None:
    answer = get(*headers, method=method)
    assert (answer.status, answer.error["code"]) == (403, "cross_site_request")
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_itself_may_ask_and_may_be_linked_to(get: Any) -> None:
    assert get(("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin"), method="POST").status == 200
    linked = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]
    assert get(*linked, path="/").status == 200
    assert get(("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), path="/main.js").status == 403


def test_origins_that_the_operator_names(get: Any) -> None:
    origins = frozenset({"https://app.example.org"})
    answer = get(("origin", "https://app.example.org"), ("sec-fetch-site", "cross-site"), origins=origins)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
    assert answer.headers["vary"] == "Origin"
    assert get(("origin", "https://app.example.org.evil"), origins=origins).status == 403
    asked = [
        ("origin", "https://app.example.org"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, content-type"),
        ("access-control-request-private-network", "true"),
    ]
    preflight = get(*asked, method="OPTIONS", origins=origins, keys=KEYS)  # browsers ask without the key
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"
    assert preflight.headers["access-control-allow-private-network"] == "true"
    assert get(("origin", "https://app.example.org"), origins=origins, keys=KEYS).status == 401


def test_a_page_of_our_own_asks_with_its_key(get: Any) -> None:
    asked = [("origin", "http://localhost:8000"), ("access-control-request-method", "POST")]
    assert get(*asked, method="OPTIONS", keys=KEYS).status == 401


@pytest.mark.parametrize("origin", ["*", "app.example.org", "https://app.example.org/path", "null"])
def test_rules_that_are_no_origins(origin: str) -> None:
    with pytest.raises(SettingError, match="no origin"):
        Rules(origins=frozenset({origin}))


def test_every_answer_says_how_to_treat_it(get: Any) -> None:
    for answer in (get(), get(("host", "evil.example")), get(keys=KEYS)):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_anthropic_clients_get_their_own_shape(get: Any) -> None:
    answer = get(path="/v1/messages", method="POST", keys=KEYS)
    assert (answer.json["type"], answer.error["type"]) == ("error", "authentication_error")


def test_web_sockets_are_closed(echo: Any) -> None:
    sent: list[str] = []

    async def run() -> None:
        async def send(message: Any) -> None:
            sent.append(message["type"])

        scope = {"type": "websocket", "path": "/", "headers": []}
        await Guard(echo, Rules(), None)(scope, send, send)

    asyncio.run(run())
    assert sent == ["websocket.close"]
