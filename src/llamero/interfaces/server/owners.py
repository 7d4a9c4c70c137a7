"""Who asks."""

from __future__ import annotations

from starlette.requests import Request


def owner_of(request: Request) -> str:
    """The name of the key that the guard at the door found, "" where there are no keys."""
    return str(getattr(request.state, "owner", ""))
