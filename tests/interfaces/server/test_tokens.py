"""`/tokenize` and `/detokenize`, with vLLM's fields and with llama.cpp's."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

HELLO = [{"role": "user", "content": "hi"}]


def post(url: str, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}{path}", json=body, timeout=30)


def test_there_and_back(chain: str) -> None:
    told = post(chain, "/tokenize", prompt="Here is a llama").json()
    assert told["count"] == len(told["tokens"])
    assert told["max_model_len"] == 256
    assert told["tokens"][0] == 1
    back = post(chain, "/detokenize", tokens=told["tokens"]).json()
    assert back == {"prompt": "Here is a llama", "content": "Here is a llama"}
    assert post(chain, "/detokenize", tokens=told["tokens"], special=True).json()["prompt"].startswith("<s>")


def test_as_llama_cpp_asks(chain: str) -> None:
    bare = post(chain, "/tokenize", content="a🦙").json()["tokens"]
    begun = post(chain, "/tokenize", content="a🦙", add_special=True, with_pieces=True).json()["tokens"]
    assert [token["id"] for token in begun] == [1, *bare]
    assert begun[-1]["piece"] == ["🦙".encode()[-1]]
    assert begun[-5]["piece"] == " a"


def test_conversations_and_texts_of_tokens(chain: str) -> None:
    whole = post(chain, "/tokenize", messages=HELLO, return_token_strs=True).json()
    unasked = post(chain, "/tokenize", messages=HELLO, add_generation_prompt=False).json()
    assert whole["tokens"][: unasked["count"]] == unasked["tokens"]
    assert whole["count"] > unasked["count"]
    assert len(whole["token_strs"]) == whole["count"]
    assert whole["token_strs"].count("<|turn|>") == 2


def test_special_tokens_are_text_unless_asked_for(chain: str) -> None:
    assert post(chain, "/tokenize", prompt="<|turn|>").json()["count"] > 2
    assert post(chain, "/tokenize", prompt="<|turn|>", parse_special=True).json()["count"] == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "give one of prompt, content and messages"),
        ({"prompt": "a", "content": "a"}, "give one of"),
        ({"prompt": "a", "tools": []}, "tools does not go with prompt"),
        ({"messages": HELLO, "add_special": True}, "add_special does not go with messages"),
        ({"prompt": "a", "add_specials": True}, "did you mean 'add_special'?"),
    ],
)
def test_refused_by_name(chain: str, body: dict[str, Any], words: str) -> None:
    answer = post(chain, "/tokenize", **body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_an_id_that_is_none(chain: str) -> None:
    assert post(chain, "/detokenize", tokens=[288]).status_code == 400
    assert post(chain, "/detokenize", tokens=[-1]).status_code == 400
