"""The OpenAPI document is complete and true: requests made from it, good and bad, find no 500 and no surprise."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

ALWAYS = ("400", "401", "403", "408", "413", "421", "500", "503", "504")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def document(chain: str) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(f"{chain}/openapi.json", timeout=60).json()
    return body


def attack(document: dict[str, Any], url: str, examples: int) -> int:
    """Send `examples` good and as many bad requests to every route; the number of requests."""
    sent = 0
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        operation = found.ok()
        modes = list(GenerationMode) if operation.method == "post" else [GenerationMode.POSITIVE]
        for mode in modes:

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: Case) -> None:
                nonlocal sent
                case.call_and_validate(base_url=url, checks=CHECKS, timeout=120)
                sent += 1

            send()
    return sent


def test_requests_made_from_the_document(document: dict[str, Any], chain: str) -> None:
    assert attack(document, chain, examples=5) > 60


@pytest.mark.long
def test_many_requests_made_from_the_document(document: dict[str, Any], chain: str) -> None:
    assert attack(document, chain, examples=200) > 3000


def test_every_route_has_examples_and_errors(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert "422" not in operation["responses"], path
            assert operation["description"], path
            assert {"200", "400", "401", "403", "408", "413", "421", "500", "503", "504"} <= operation[
                "responses"
            ].keys()
            if method == "post":
                body = operation["requestBody"]["content"]["application/json"]["schema"]
                assert schemas[body["$ref"].rsplit("/", 1)[1]]["examples"], path
                assert {"200", "404", "429"} <= operation["responses"].keys(), path
    for schema in schemas.values():
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False


def test_examples_are_answered(document: dict[str, Any], chain: str) -> None:
    for path in document["paths"]:
        body = document["paths"][path].get("post", {}).get("requestBody")
        if body and path != "/v1/moderations":  # which needs a Guard
            name = body["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            for example in document["components"]["schemas"][name]["examples"]:
                assert httpx.post(f"{chain}{path}", json=example, timeout=120).status_code == 200, (path, example)
