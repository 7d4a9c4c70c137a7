"""A conversation as ids, and which of them the assistant says: what tuning learns from is only those.

The one builder of such masks. Where an answer begins is the template's own word: where its generation prompt ends, so
that what is learnt is what is written at inference, end of turn included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llamero.errors import TemplateError
from llamero.tokenizer.chat import ChatTemplate, ChatTokenizer


def answers(
    template: ChatTemplate, tokenizer: ChatTokenizer, messages: Sequence[Mapping[str, Any]], **variables: Any
) -> tuple[list[int], list[bool]]:
    """The ids of the whole conversation, and for each whether the assistant says it.

    variables: the template's own, such as `date_string`; a date that is not given may change between two renderings.
    Raises what `ChatTemplate.encode` raises, and TemplateError where the template writes an answer, or what came before
    it, otherwise once more messages follow: such a conversation has no mask that is true to inference.
    """
    ids = template.encode(tokenizer, messages, add_generation_prompt=False, **variables)
    says = [False] * len(ids)
    for place, message in enumerate(messages):
        if message.get("role") != "assistant":
            continue
        before = template.encode(tokenizer, messages[:place], add_generation_prompt=True, **variables)
        after = template.encode(tokenizer, messages[: place + 1], add_generation_prompt=False, **variables)
        if ids[: len(before)] != before or ids[: len(after)] != after:
            raise TemplateError(
                f"message {place + 1}: the chat format {template.name!r} writes this answer, or what comes before it, "
                "differently while it is being given; cut the conversation after it"
            )
        says[len(before) : len(after)] = [True] * (len(after) - len(before))
    return ids, says
