"""Chats as a model was trained to read them: a template turns messages into text, and text into ids.

Templates come with the model's file, or are one of the formats built in. Special tokens in messages stay text; those
of the template become control tokens. Knows nothing of models, samplers or servers. jinja2 is imported when the
first template is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llamero.errors import SettingError, TemplateError, nearest
from llamero.tokenizer.messages import checked_messages, checked_tools, one_call_each, plain
from llamero.tokenizer.shield import Segment, Shield, texts_of

if TYPE_CHECKING:
    from llamero.tokenizer.sandbox import Compiled

__all__ = ["ChatTemplate", "ChatTokenizer", "Segment"]

_LLAMA_3 = ("<|begin_of_text|>", "<|eot_id|>")
BUILTIN: Mapping[str, tuple[str, str, str, str]] = {
    # name: file, what stands before its text, begin token, end token
    "plain": ("plain", "", "", ""),
    "llama-2": ("llama-2", "", "<s>", "</s>"),
    "llama-3": ("llama-3", "", *_LLAMA_3),
    "llama-3.1": ("llama-3.1", "", *_LLAMA_3),
    "llama-3.2": ("llama-3.1", '{%- set release = "3.2" -%}\n', *_LLAMA_3),
    "llama-3.3": ("llama-3.1", "", *_LLAMA_3),
}
"""The formats we know, by name."""

_OWN = frozenset({"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"})


class ChatTokenizer(Protocol):
    """What a template needs of a tokenizer to encode a chat."""

    @property
    def special_tokens(self) -> Mapping[str, int]: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def add_bos(self) -> bool: ...
    def encode(self, text: str, *, bos: bool, special: bool, start: bool) -> list[int]: ...


class ChatTemplate:
    """One chat format.

    Attributes: `name`, a built-in format's name or "custom"; `source`, the Jinja template; `takes_parts`, whether it
    reads content as a list of parts, not as one text.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "", name: str = "custom") -> None:
        """Compile `source`; `bos` and `eos` are the texts of the begin and end tokens, which templates write.

        Errors: TemplateError for a template that is broken, too large, or loads other files.
        """
        from llamero.tokenizer.sandbox import Compiled

        self.name = name
        self.source = source
        self._bos = bos
        self._eos = eos
        self._compiled: Compiled = Compiled(source, name=f"the chat template {name!r}")
        # A template that goes through `content` and never asks whether it is text takes only a list of parts.
        self.takes_parts = "content" in self._compiled.loops_over and "string" not in self._compiled.tests

    @classmethod
    def builtin(cls, name: str) -> ChatTemplate:
        """A format by name: one of `BUILTIN`. Errors: SettingError naming the nearest."""
        if name not in BUILTIN:
            raise SettingError(f"there is no chat format {name!r}; {nearest(name, BUILTIN)}")
        file, preface, bos, eos = BUILTIN[name]
        source = (Path(__file__).parent / "templates" / f"{file}.jinja").read_text(encoding="utf-8")
        return cls(preface + source, bos=bos, eos=eos, name=name)

    @staticmethod
    def detect(source: str | None, special_tokens: Iterable[str], *, model: str = "") -> str:
        """The name of the built-in format that a template, or else a vocabulary, stands for.

        `special_tokens` are the texts of the control tokens; `model` is the model's name, which alone tells a Llama 2
        chat model from its base. A template of no known family is "custom"; a vocabulary without one is "plain".
        """
        if source is not None:
            return _family(source)
        tokens = frozenset(special_tokens)
        if "<|start_header_id|>" in tokens:
            return "llama-3.1" if "<|eom_id|>" in tokens else "llama-3"
        chatty = any(word in model.lower() for word in ("chat", "instruct"))
        return "llama-2" if "[INST]" in tokens or ({"<s>", "</s>"} <= tokens and chatty) else "plain"

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        /,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The conversation as text, ending where the assistant is to speak.

        `variables` are the template's own (such as `date_string`, `builtin_tools`). Errors: TemplateError naming the
        message that is malformed, or with the template's own words when it refuses.
        """
        given = self._given(messages, tools, variables)
        return self._rendered(given, add_generation_prompt, datetime.now())

    def segments(
        self,
        messages: Sequence[Mapping[str, Any]],
        special_tokens: Iterable[str],
        /,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> list[Segment]:
        """The same text in segments: the template's special tokens, and literal text in which there are none.

        A special token inside any string of the messages, tools or variables is in a literal segment.
        """
        shield, text = self._shielded(messages, special_tokens, tools, add_generation_prompt, variables)
        return shield.split(text)

    def encode(
        self,
        tokenizer: ChatTokenizer,
        messages: Sequence[Mapping[str, Any]],
        /,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> list[int]:
        """The conversation as ids.

        It begins with exactly one BOS where the template writes one or the vocabulary asks for it. As in Meta's code,
        a text after a BOS begins anew (SentencePiece puts its space before it); after other special tokens it goes on.
        Errors: those of `render`, and TokenizerError for a text that cannot be encoded.
        """
        given: dict[str, Any] = {"tools": tools, "add_generation_prompt": add_generation_prompt, **variables}
        return [token for _, ids in self.pieces(tokenizer, messages, **given) for token in ids]

    def pieces(
        self,
        tokenizer: ChatTokenizer,
        messages: Sequence[Mapping[str, Any]],
        /,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> list[tuple[Segment, list[int]]]:
        """What `encode` gives, segment by segment. A BOS that the template does not write has a segment too."""
        special, bos = tokenizer.special_tokens, tokenizer.bos_id
        shield, text = self._shielded(messages, special, tools, add_generation_prompt, variables)
        pieces: list[tuple[Segment, list[int]]] = []
        last = bos
        for segment in shield.split(text):
            if segment.literal:
                ids = tokenizer.encode(segment.text, bos=False, special=False, start=last == bos)
            else:
                ids = [special[segment.text]]
            last = ids[-1] if ids else last
            pieces.append((segment, ids))
        if bos is None:
            return pieces
        written = next((place for place, (_, ids) in enumerate(pieces) if ids != [bos]), len(pieces))
        name = next((name for name, token in special.items() if token == bos), "")
        first = [(Segment(name, False), [bos])] if written or tokenizer.add_bos else []
        return first + pieces[written:]

    @cached_property
    def _one_call(self) -> bool:
        """Whether the template refuses a message with several calls, and takes one."""
        call = {"type": "function", "function": {"name": "f", "arguments": {}}}

        def refuses(count: int) -> bool:
            turns: list[dict[str, Any]] = [
                {"role": "user", "content": "?"},
                {"role": "assistant", "content": "", "tool_calls": [call] * count},
            ]
            given = {"messages": checked_messages(turns, parts=self.takes_parts), "tools": None}
            try:
                self._rendered(given, False, datetime.now())
            except TemplateError:
                return True
            return False

        return refuses(2) and not refuses(1)

    def _shielded(
        self,
        messages: Sequence[Mapping[str, Any]],
        special_tokens: Iterable[str],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
        variables: Mapping[str, Any],
    ) -> tuple[Shield, str]:
        """The rendered text in which special tokens that came from outside the template are broken.

        A template may look into the messages and so render broken ones differently. Then fewer places are broken, so
        that only a message that holds a whole special token can still be rendered differently.
        """
        given = self._given(messages, tools, variables)
        now = datetime.now()
        shield = Shield(special_tokens, [self.source, self._bos, self._eos, *texts_of(given)])
        text = self._rendered(given, add_generation_prompt, now)
        broken = shield.everywhere(given)
        if broken != given:
            try:
                shielded = self._rendered(broken, add_generation_prompt, now)
            except TemplateError:
                shielded = ""
            if shield.clean(shielded) != text:
                shielded = self._rendered(shield.whole(given), add_generation_prompt, now)
            text = shielded
        return shield, text

    def _given(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Everything that comes from outside, checked and copied."""
        if taken := sorted(_OWN & variables.keys()):
            raise TemplateError(f"{taken[0]} cannot be given as a variable of a chat template")
        given = {name: plain(value, name) for name, value in variables.items()}
        checked = checked_messages(messages, parts=self.takes_parts)
        if any(len(message.get("tool_calls", ())) > 1 for message in checked) and self._one_call:
            checked = one_call_each(checked)
        return given | {
            "messages": checked,
            "tools": checked_tools(tools),
        }

    def _rendered(self, given: Mapping[str, Any], add_generation_prompt: bool, now: datetime) -> str:
        own = {"bos_token": self._bos, "eos_token": self._eos, "add_generation_prompt": add_generation_prompt}
        return self._compiled.render({"documents": None, **given, **own}, now=now)


def _family(source: str) -> str:
    """The Llama that a template was written for, by the marks it writes."""
    if "<|start_header_id|>" in source:
        if "ipython" not in source:
            return "llama-3"
        return "llama-3.2" if "strftime_now" in source and "<|python_tag|>" not in source else "llama-3.1"
    return "llama-2" if "[INST]" in source and "<<SYS>>" in source else "custom"
