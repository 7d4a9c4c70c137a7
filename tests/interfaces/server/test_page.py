"""The page's files: what is served, with which headers, and nothing beside it. At work: tests/interfaces/page."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

import llamero
from llamero.interfaces.server.page import page_files

PAGE = Path(llamero.__file__).parent / "interfaces" / "page"
IMPORT = re.compile(r"""(?:from|import)\s+["'](\.[^"']+)["']""")
ADDRESS = re.compile(r"""(?:src|href)=["']([^"'#]+)["']""")


@pytest.fixture
def client(chain: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=chain, headers={"Connection": "close"}) as client:
        yield client


def test_the_page_and_all_it_asks_for(client: httpx.Client) -> None:
    seen, waiting = set(), ["/"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = client.get(path)
        assert answer.status_code == 200, path
        found = (ADDRESS if path == "/" else IMPORT).findall(answer.text if "svg" not in path else "")
        waiting += [urlsplit(str(answer.url.join(address))).path for address in found]
    scripts_and_styles = {name for name in page_files() if name.endswith((".js", ".css"))}
    assert scripts_and_styles <= seen, "files that nothing asks for"


@pytest.mark.parametrize("path", ["/", "/main.js", "/base.css", "/icon.svg", "/vendor/markdown-it.js"])
def test_headers_let_nothing_else_run(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"].split(";")[0] == kinds.get(Path(path).suffix, "text/html")


def test_a_file_that_is_known_is_not_sent_again(client: httpx.Client) -> None:
    first = client.get("/main.js")
    again = client.get("/main.js", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get("/main.js", headers={"If-None-Match": '"other"'}).content == first.content


def test_a_head_has_no_body(client: httpx.Client) -> None:
    head = client.head("/")
    assert head.content == b""
    assert head.headers["content-length"] == str(len(client.get("/").content))


@pytest.mark.parametrize(
    "path",
    [
        *("/vendor", "/vendor/", "/page/", "/index.html", "/vendor/vendor.json", "/vendor/README.md", "/main.js/"),
        *("/../server/page.py", "/vendor/../../errors.py", "/%2e%2e/errors.py", "/vendor/%2e%2e%2fmain.js"),
        *("/..%5cerrors.py", "//etc/passwd", "/main.js%00.css", "/MAIN.JS"),
    ],
)
def test_nothing_beside_the_files(chain: str, path: str) -> None:
    connection = HTTPConnection(urlsplit(chain).netloc)  # sends the path as it is
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 404, path
    assert b"llamero" not in answer.read().replace(path.encode(), b"")
    connection.close()


def test_no_file_asks_for_another_host_or_runs_strings() -> None:
    for path in PAGE.glob("*.*"):
        text = path.read_text()
        strangers = set(re.findall(r"https?://[^\s\"'<)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not strangers, path.name
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
            assert word not in text, f"{path.name} uses {word}"
    html = (PAGE / "index.html").read_text()
    assert not re.findall(r"\s(on\w+|style)=", html)
    assert "<script>" not in html
    assert "<style" not in html


def test_every_script_and_style_says_what_it_is() -> None:
    for path in [*PAGE.glob("*.js"), *PAGE.glob("*.css")]:
        assert path.read_text().startswith(("// ", "/* ")), path.name


def test_vendored_files_are_what_the_list_says() -> None:
    for library in json.loads((PAGE / "vendor" / "vendor.json").read_text()):
        assert library["version"] in library["archive"]
        for name, file in library["files"].items():
            assert hashlib.sha256((PAGE / "vendor" / name).read_bytes()).hexdigest() == file["sha256"], name
