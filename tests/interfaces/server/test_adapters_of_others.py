"""LangChain's and LlamaIndex's OpenAI adapters, real ones, against a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore"),  # theirs, of their dependencies
]

SCHEMA = {
    "title": "Person",
    "description": "A person.",
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@pytest.fixture(scope="module")
def langchain() -> Any:
    return pytest.importorskip("langchain_openai")


def test_langchain_chats_and_streams(langchain: Any, chain: str, tale: str) -> None:
    chat = langchain.ChatOpenAI(base_url=f"{chain}/v1", api_key="none", model="chain", temperature=0)
    answer = chat.invoke("hello")
    assert answer.content == tale
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.usage_metadata["output_tokens"] == 18
    chunks = list(chat.stream([("system", "Be brief."), ("human", "hello")], stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == tale
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == 18
    assert [each.content for each in chat.batch(["a", "b"])] == [tale, tale]


def test_langchain_gets_objects_and_calls(langchain: Any, noise: str) -> None:
    chat = langchain.ChatOpenAI(base_url=f"{noise}/v1", api_key="none", model="noise", max_tokens=120, seed=1)
    person = chat.with_structured_output(SCHEMA, method="json_schema").invoke("Who?")
    assert person.keys() == {"name", "age"}
    called = chat.bind_tools([add], tool_choice="add").invoke("one and two")
    assert called.tool_calls[0]["name"] == "add"
    assert called.tool_calls[0]["args"].keys() >= {"a", "b"}


def test_langchain_embeds(langchain: Any, stories: str) -> None:
    embeddings = langchain.OpenAIEmbeddings(
        base_url=f"{stories}/v1", api_key="none", model="stories", check_embedding_ctx_length=False
    )
    vectors = embeddings.embed_documents(["a dog", "a cat"])
    assert len(vectors) == 2
    assert vectors[0] == pytest.approx(embeddings.embed_query("a dog"), abs=1e-5)


def test_llama_index(chain: str, noise: str, tale: str) -> None:
    like = pytest.importorskip("llama_index.llms.openai_like").OpenAILike
    messages = pytest.importorskip("llama_index.core.llms")
    tools = pytest.importorskip("llama_index.core.tools")
    model = like(
        model="chain", api_base=f"{chain}/v1", api_key="none", is_chat_model=True, temperature=0, max_tokens=40
    )
    hello = [messages.ChatMessage(role="user", content="hello")]
    assert model.chat(hello).message.content == tale
    assert "".join(piece.delta or "" for piece in model.stream_chat(hello)) == tale
    plain = like(
        model="chain", api_base=f"{chain}/v1", api_key="none", is_chat_model=False, temperature=0, max_tokens=40
    )
    assert plain.complete("b").text.strip() == tale
    assert "".join(piece.delta or "" for piece in plain.stream_complete("b")).strip() == tale
    caller = like(
        model="noise",
        api_base=f"{noise}/v1",
        api_key="none",
        is_chat_model=True,
        is_function_calling_model=True,
        max_tokens=120,
    )
    answer = caller.chat_with_tools([tools.FunctionTool.from_defaults(add)], user_msg="one and two", tool_required=True)
    (call, *_) = caller.get_tool_calls_from_response(answer)
    assert call.tool_name == "add"
    assert json.dumps(call.tool_kwargs)
