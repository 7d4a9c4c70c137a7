"""Words into the ids a request is made of: texts, conversations, and what may be left out of a long one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llamero.engine.tree import shared
from llamero.errors import TemplateError
from llamero.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llamero.tokenizer.chat import ChatTemplate

_LOOK_BACK = 16  # tokens


@dataclass(frozen=True)
class Prompt:
    """What the model reads.

    keep: how many of its first tokens stay when the context overflows. fresh: the answer begins a text of its own,
    so a space that the tokenizer puts before every text is not part of it. dropped: tokens already left out, with
    which messages.
    """

    ids: list[int]
    keep: int = 0
    fresh: bool = True
    dropped: int = 0
    without: range = range(0)


def text_prompt(
    tokenizer: Tokenizer, prompt: str | Sequence[int], *, special: bool = False, keep: int | None = None
) -> Prompt:
    """A text with its BOS, or ids as they are. keep: None keeps a BOS."""
    ids = tokenizer.encode(prompt, special=special) if isinstance(prompt, str) else [int(token) for token in prompt]
    if keep is None:
        keep = int(ids[:1] == [tokenizer.bos_id])
    valid = [token for token in ids[-_LOOK_BACK:] if 0 <= token < tokenizer.vocab_size]
    return Prompt(ids, keep, fresh=not tokenizer.decode(valid, start=False))


def make_template(given: str | None, tokenizer: Tokenizer, model: str) -> ChatTemplate:
    """The chat format: a built-in name or Jinja source that was given, the tokenizer's own, or the one it speaks."""
    from llamero.tokenizer.chat import BUILTIN, ChatTemplate  # only here: not everyone chats

    if given is not None and (given in BUILTIN or not any(mark in given for mark in ("{", "\n"))):
        return ChatTemplate.builtin(given)
    source = tokenizer.chat_template if given is None else given
    if source is None:
        return ChatTemplate.builtin(ChatTemplate.detect(None, tokenizer.special_tokens, model=model))
    return ChatTemplate(source, bos=_name(tokenizer, tokenizer.bos_id), eos=_name(tokenizer, tokenizer.eos_id))


def chat_prompt(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None,
    variables: Mapping[str, Any],
    room: int | None,
) -> Prompt:
    """A conversation up to where the assistant is to speak.

    room: how many tokens it may have; the oldest messages after a leading system message are left out, whole, until
    it fits or one is left. None leaves nothing out. Raises TemplateError.
    """
    if taken := sorted({"tools", "add_generation_prompt"} & variables.keys()):
        raise TemplateError(f"{taken[0]} cannot be given as a variable of a chat template")

    def encode(kept: Sequence[Mapping[str, Any]]) -> list[int]:
        return template.encode(tokenizer, kept, tools=tools, **variables)

    whole = ids = encode(messages)
    head, turns = _split(messages)
    without = range(0)
    if room is not None and len(whole) > room and len(turns) > 1:
        starts = _starts(turns)
        later = [[*head, *turns[start:]] for start in starts]
        place = bisect_left(later[:-1], True, key=lambda kept: len(encode(kept)) <= room)
        ids, without = encode(later[place]), range(len(head), len(head) + starts[place])
    return Prompt(
        ids,
        keep=_head_tokens(template, tokenizer, head, ids),
        fresh=template.name != "plain",
        dropped=max(0, len(whole) - len(ids)),
        without=without,
    )


def chat_room(context: int, max_tokens: int | None) -> int:
    """How long a conversation may be when it is to leave room for the answer: at least half of the context."""
    return context - min(max_tokens or context // 4, context // 2)


def _split(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The leading system message, if there is one, and the rest."""
    system = len(messages) > 0 and messages[0].get("role") == "system"
    return list(messages[: int(system)]), list(messages[int(system) :])


def _starts(turns: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where a shortened conversation may begin: at a message of the user, and at the last message in any case."""
    users = [i for i, turn in enumerate(turns) if i and turn.get("role") == "user"]
    return users or [len(turns) - 1]


def _head_tokens(
    template: ChatTemplate, tokenizer: Tokenizer, head: Sequence[Mapping[str, Any]], ids: list[int]
) -> int:
    """How many first tokens belong to the system message; at least BOS."""
    bos = int(ids[:1] == [tokenizer.bos_id])
    if not head:
        return bos
    try:
        return max(bos, shared(template.encode(tokenizer, head, add_generation_prompt=False), ids))
    except TemplateError:  # a template may refuse a conversation without a user
        return bos


def _name(tokenizer: Tokenizer, token: int | None) -> str:
    return "" if token is None else tokenizer.decode([token], special=True, start=False)
