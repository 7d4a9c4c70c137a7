"""In which syntax a model is asked to write its calls, found from what its chat template shows it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from llamero.errors import TemplateError

if TYPE_CHECKING:
    from llamero.tokenizer.chat import ChatTemplate

Syntax = Literal["json", "python", "tag"]
"""{"name": …, "parameters": …}; [f(a=1)]; <function=f>{…}</function>. See parser.py."""

_NAME = "function_to_look_for"
_TOOL = {
    "type": "function",
    "function": {"name": _NAME, "description": "", "parameters": {"type": "object", "properties": {}}},
}


def syntax_of(template: ChatTemplate, special_tokens: Collection[str] = ()) -> Syntax | None:
    """What the template tells the model to write, or else what its vocabulary was made for.

    None: the template does not show functions to the model, so calls cannot be asked of it. special_tokens: the texts
    of the control tokens.
    """
    try:
        shown = template.render([{"role": "user", "content": "?"}], tools=[_TOOL])
    except TemplateError:
        return None
    if _NAME not in shown:
        return None
    if "<function=" in shown:
        return "tag"
    if re.search(r"\[\w*func\w*\(\w+\s*=", shown):  # [func_name1(params_name1=…
        return "python"
    told = re.search(r'"parameters":\s*[^{\s]', shown)  # {"name": function name, "parameters": dictionary of …}
    if "<|python_start|>" in special_tokens and not told:
        return "python"
    return "json"
