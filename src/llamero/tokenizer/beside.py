"""What the small JSON files beside a vocabulary say: roles of tokens, ends, added tokens, the chat template.

`tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`, `generation_config.json` and
`chat_template.jinja` of a Hugging Face folder. Knows nothing of the vocabulary that they speak of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llamero.errors import TokenizerError

LARGEST: Final = 1 << 27  # bytes; Llama 4's tokenizer.json is 28 MB


@dataclass(frozen=True)
class Added:
    """A token that stands outside the vocabulary proper. `special`: in text only on request."""

    id: int
    text: str
    special: bool


@dataclass(frozen=True, kw_only=True)
class Beside:
    """All of it; None or empty where no file speaks. Roles (bos, eos, pad, unk) -> the token's text."""

    roles: Mapping[str, str] = field(default_factory=dict)
    stops: frozenset[int] = frozenset()
    add_bos: bool | None = None
    chat_template: str | None = None
    added: tuple[Added, ...] = ()


def read_beside(folder: Path) -> Beside:
    """Raises TokenizerError, naming the file, for one that is broken; files that are absent say nothing."""
    config = _object(folder / "tokenizer_config.json")
    roles = _roles(_object(folder / "special_tokens_map.json")) | _roles(config)
    add_bos = config.get("add_bos_token")
    return Beside(
        roles=roles,
        stops=_stops(_object(folder / "generation_config.json"), folder / "generation_config.json"),
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        chat_template=_template(folder, config),
        added=_added(config, _object(folder / "added_tokens.json"), folder),
    )


def parse_json(data: bytes, where: str) -> Any:
    """JSON from a stranger. Raises TokenizerError where it is too large, not JSON, or nested without end."""
    if len(data) > LARGEST:
        raise TokenizerError(f"{where} has {len(data)} bytes; no tokenizer needs more than {LARGEST}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{where} is not JSON: {str(error)[:200]}") from None


def added_token(item: object, where: str, number: object = None) -> Added:
    """One entry of `added_tokens` or `added_tokens_decoder`.

    Raises TokenizerError for one that is malformed or that wants the white space around it stripped.
    """
    entry = item if isinstance(item, dict) else {}
    token, text = entry.get("id", number), entry.get("content")
    if not isinstance(token, int) or isinstance(token, bool) or token < 0 or not isinstance(text, str) or not text:
        raise TokenizerError(f"{where}: an added token has no id or no content: {str(item)[:100]}")
    for option in ("single_word", "lstrip", "rstrip"):
        if entry.get(option):
            raise TokenizerError(
                f"{where}: added token {text!r} asks for {option}, which no Llama uses; set it to false"
            )
    return Added(token, text, bool(entry.get("special", False)))


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > LARGEST:
        raise TokenizerError(f"{path} has {path.stat().st_size} bytes; no tokenizer needs more than {LARGEST}")
    value = parse_json(path.read_bytes(), str(path))
    if not isinstance(value, dict):
        raise TokenizerError(f"{path} must hold an object, not {type(value).__name__}")
    return value


def _roles(config: Mapping[str, Any]) -> dict[str, str]:
    """A token is given as its text, or as an object with `content`."""
    roles = {}
    for role in ("bos", "eos", "pad", "unk"):
        value = config.get(f"{role}_token")
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str) and text:
            roles[role] = text
    return roles


def _stops(generation: Mapping[str, Any], path: Path) -> frozenset[int]:
    value = generation.get("eos_token_id")
    numbers = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise TokenizerError(f"{path}: eos_token_id must be a number or a list of numbers, not {str(value)[:100]}")
    return frozenset(numbers)


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The template file goes before the setting; of several templates by name, "default" is taken."""
    path = folder / "chat_template.jinja"
    if path.is_file() and path.stat().st_size <= LARGEST:
        return path.read_text(encoding="utf-8", errors="replace")
    value = config.get("chat_template")
    if isinstance(value, list):
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _added(config: Mapping[str, Any], extra: Mapping[str, Any], folder: Path) -> tuple[Added, ...]:
    """Newest convention last, so that it wins."""
    found: dict[int, Added] = {}
    for text, number in extra.items():
        token = added_token({"id": number, "content": text}, str(folder / "added_tokens.json"))
        found[token.id] = token
    decoder = config.get("added_tokens_decoder")
    for key, item in (decoder if isinstance(decoder, dict) else {}).items():
        number = int(key) if key.isascii() and key.isdigit() and len(key) < 12 else None
        token = added_token(item, str(folder / "tokenizer_config.json"), number)
        found[token.id] = token
    return tuple(found[number] for number in sorted(found))
