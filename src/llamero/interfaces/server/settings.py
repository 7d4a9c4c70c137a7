"""How a server behaves towards those who ask."""

from __future__ import annotations

from dataclasses import dataclass

from llamero.engine.sampling import check_number


@dataclass(frozen=True, kw_only=True)
class Settings:
    """keep_alive: seconds after which a silent stream says that it still lives.

    retry_after: seconds after which a client that was sent away may try again. Raises SettingError.
    """

    keep_alive: float = 10.0
    retry_after: int = 2

    def __post_init__(self) -> None:
        check_number("keep_alive", self.keep_alive, float, 0.01, 3600)
        check_number("retry_after", self.retry_after, int, 1, 3600)
