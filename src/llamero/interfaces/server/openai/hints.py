"""Fields of chats and responses that change nothing, by their nature."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llamero.interfaces.server.fields import No, Strict


class Hints(Strict):
    """Who asks, and what a server may do beside its answer."""

    user: str | None = Field(None, description="a hint; changes nothing")
    safety_identifier: str | None = Field(None, description="a hint; changes nothing")
    metadata: dict[str, str] | None = Field(None, description="a hint; a response gives it back")
    store: No | None = Field(None, description="a hint; nothing is stored")
    service_tier: Literal["auto", "default"] | None = Field(None, description="a hint; there is one tier")
    prompt_cache_key: str | None = Field(None, description="a hint; changes nothing")
    prompt_cache_retention: str | None = Field(None, description="a hint; changes nothing")
