"""`/tokenize` and `/detokenize`: text <-> ids, with the fields that vLLM's and llama.cpp's clients send."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from llamero.interfaces.llama import Llama
from llamero.interfaces.server.fields import Shape, Strict
from llamero.interfaces.server.json_bodies import JsonAnswer, JsonRoute
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openai.messages import ChatMessage, template_message
from llamero.interfaces.server.openai.tools import FunctionTool, template_tools
from llamero.interfaces.server.openapi import responses
from llamero.interfaces.server.refusals import Refusal


class TokenizeRequest(Strict):
    """A text (`prompt`, or `content`) or a conversation (`messages`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "How many?", "return_token_strs": True}]})

    model: str = Field("", max_length=256, description="its name; the first one where none is given")
    prompt: str | None = None
    content: str | None = Field(None, description="llama.cpp's name for the prompt; then without BOS, unless asked for")
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = Field(None, description="with messages")
    add_generation_prompt: bool | None = Field(None, description="with messages: go on to where an answer begins; true")
    add_special_tokens: bool | None = Field(None, description="begin a text with BOS, where the model uses one; true")
    add_special: bool | None = Field(None, description="llama.cpp's name for add_special_tokens; false with content")
    parse_special: bool | None = Field(None, description="<|eot_id|> and its like in a text are those tokens; false")
    return_token_strs: bool | None = Field(None, description="tell the text of each token in token_strs")
    with_pieces: bool | None = Field(None, description="llama.cpp's way: each token is an object with id and piece")


class Piece(Shape):
    """A token: its id, and its text, or its bytes where they are no text."""

    id: int
    piece: str | list[int]


class Tokenized(Shape):
    """The ids. max_model_len: the context."""

    tokens: list[int] | list[Piece]
    count: int
    max_model_len: int
    token_strs: list[str] | None = None


class DetokenizeRequest(Strict):
    """Ids."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tokens": [1, 15, 27]}]})

    model: str = Field("", max_length=256, description="its name; the first one where none is given")
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=2**20, fail_fast=True)]
    special: bool | None = Field(None, description="show control tokens by name; otherwise they are left out")


class Detokenized(Shape):
    """The text, under vLLM's name and under llama.cpp's."""

    prompt: str
    content: str


def token_routes(library: Library) -> APIRouter:
    """The routes, answered with the tokenizers of the library's models."""
    router = APIRouter(tags=["tokens"], route_class=JsonRoute)

    @router.post("/tokenize", response_model=Tokenized, responses=responses(404, 429, error=ErrorBody))
    async def tokenize(body: TokenizeRequest) -> JsonAnswer:
        """The ids of a text or of a conversation."""
        _check(body)
        async with library.use(body.model) as served:
            return JsonAnswer(await asyncio.to_thread(_tokenized, served.llama, body))

    @router.post("/detokenize", response_model=Detokenized, responses=responses(404, 429, error=ErrorBody))
    async def detokenize(body: DetokenizeRequest) -> JsonAnswer:
        """The text of ids."""
        async with library.use(body.model) as served:
            text = await asyncio.to_thread(served.llama.detokenize, body.tokens, special=bool(body.special))
        return JsonAnswer({"prompt": text, "content": text})

    return router


def _check(body: TokenizeRequest) -> None:
    given = [name for name in ("prompt", "content", "messages") if getattr(body, name) is not None]
    if len(given) != 1:
        raise Refusal(400, "give one of prompt, content and messages", param=given[1] if given else "prompt")
    idle = {
        "messages": ("add_special_tokens", "add_special", "parse_special"),
        "prompt": ("tools", "add_generation_prompt"),
        "content": ("tools", "add_generation_prompt"),
    }
    for name in idle[given[0]]:
        if getattr(body, name) is not None:
            raise Refusal(400, f"{name} does not go with {given[0]}", param=name)


def _tokenized(llama: Llama, body: TokenizeRequest) -> dict[str, Any]:
    ids = _ids(llama, body)
    told: dict[str, Any] = {"tokens": ids, "count": len(ids), "max_model_len": llama.context}
    pieces = [llama.tokenizer.piece(token) for token in ids]
    if body.with_pieces:
        told["tokens"] = [{"id": token, "piece": _piece(piece)} for token, piece in zip(ids, pieces, strict=True)]
    if body.return_token_strs:
        told["token_strs"] = [piece.decode("utf-8", "replace") for piece in pieces]
    return told


def _ids(llama: Llama, body: TokenizeRequest) -> list[int]:
    if body.messages is not None:
        return llama.chat_template.encode(
            llama.tokenizer,
            [template_message(message) for message in body.messages],
            tools=template_tools(body.tools),
            add_generation_prompt=body.add_generation_prompt is not False,
        )
    text = body.prompt if body.prompt is not None else body.content or ""
    begin = body.add_special_tokens if body.add_special_tokens is not None else body.add_special
    bos = body.content is None if begin is None else begin
    return llama.tokenize(text, bos=bos, special=bool(body.parse_special))


def _piece(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
