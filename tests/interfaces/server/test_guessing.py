"""`llamero serve` that guesses ahead: the same answers, and counts of guesses in usage and metrics."""

from __future__ import annotations

import re
from typing import Any

import pytest


@pytest.mark.parametrize("guessing", [("--speculate", "ngram"), ("--draft", "chain.gguf")], ids=["ngram", "draft"])
def test_answers_are_the_same_and_guesses_are_counted(launch: Any, tale: str, guessing: tuple[str, str]) -> None:
    server = launch("-m", "chatty.gguf", *guessing).ready()
    ask = {"messages": [{"role": "user", "content": f"Say: {tale} Now you:"}], "temperature": 0.1, "seed": 3}
    with server.client() as client:
        answers = [client.post("/v1/chat/completions", json=ask | {"n": n}).json() for n in (1, 3)]
        metrics = client.get("/metrics").text
    for answer in answers:
        assert {choice["message"]["content"].strip() for choice in answer["choices"]} == {tale}
    details = [answer["usage"]["completion_tokens_details"] for answer in answers]
    accepted = sum(each["accepted_prediction_tokens"] for each in details)
    drafted = accepted + sum(each["rejected_prediction_tokens"] for each in details)
    assert details[0]["accepted_prediction_tokens"] > 0
    counted = dict(re.findall(r'llamero_tokens_total\{model="chatty",kind="(\w+)"\} (\d+)', metrics))
    assert (int(counted["drafted"]), int(counted["accepted"])) == (drafted, accepted)


def test_a_draft_that_is_not_there_is_refused(launch: Any, tmp_path: Any) -> None:
    server = launch("-m", "chatty.gguf", "--draft", str(tmp_path / "nothing.gguf"))
    assert server.end() != 0
    assert "there is no model" in server.text
