"""The Python class: a model's file, its tokenizer, its chat format and an engine, behind one name.

It holds no logic of its own: it turns words into a request, and hands back what the engine and its text make of it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from llamero.engine.constrain import Constraints
from llamero.engine.constraint import Constraint
from llamero.engine.context import Overflow
from llamero.engine.form import Form, Schema, form_of
from llamero.engine.generate import Engine, Progress
from llamero.engine.request import Request
from llamero.engine.sampling import Sampling, SamplingOptions
from llamero.engine.text import Stops, generate_text
from llamero.errors import SettingError
from llamero.formats.open import open_model_file
from llamero.formats.tensor import Reader
from llamero.interfaces.adapters import Source, add_adapters, kind_beside
from llamero.interfaces.completion import Completion, Stream
from llamero.interfaces.devices import make_ops
from llamero.interfaces.loading import Watched, find_tokenizer
from llamero.interfaces.models import find_model
from llamero.interfaces.options import ChatOptions, Stop, TextOptions
from llamero.interfaces.prompts import Prompt, chat_prompt, chat_room, make_template, text_prompt
from llamero.interfaces.speculation import Speculate, check_speculation, make_speculation
from llamero.model.config import Config
from llamero.model.weights import config_of, load
from llamero.ops.protocol import CacheKind
from llamero.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llamero.tokenizer.chat import ChatTemplate

_CONTEXT = 8192  # tokens; what a model gets unless told otherwise, so that its cache stays small


class Llama:
    """A model, ready to write. Two of them share nothing; several threads may use one, and their answers share steps.

    model: see `interfaces/models.py`; None is the embedded model. context: how many tokens it may see at once, prompt
    and answer together; None is the model's own, at most 8192. room: how many tokens the cache holds, of all answers
    at work and of those before them; None is one context. device: "cpu", "cuda", or "numpy" (the slow oracle).
    threads: None is one per core. deterministic: an answer depends on nothing but its prompt and seed, to the last bit,
    at the price of slower prompts (on "cpu"). cache: how keys and values are kept, "f16", "f32" or "q8_0".
    chat_template: a built-in name such as "llama-3.1" or "plain", or Jinja source; None is the file's own. tokenizer:
    the path of one, for files that bring none. adapters: LoRA adapters by name, each a folder that PEFT saved or a
    GGUF adapter, or (path, factor), or several of these to be mixed; an answer names the one it wants. draft: a smaller
    model of the same vocabulary that guesses ahead; speculate: "ngram" guesses what stood in the text before. Neither
    changes an answer (engine/speculate.py). progress: told (bytes read, bytes in all) while loading.

    Raises ModelNotFound, FormatError, WeightsError, ConfigError, TokenizerError, TemplateError, SettingError,
    DeviceError.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        context: int | None = None,
        room: int | None = None,
        threads: int | None = None,
        device: str = "cpu",
        deterministic: bool = False,
        cache: CacheKind = "f16",
        chat_template: str | None = None,
        tokenizer: str | Path | Tokenizer | None = None,
        adapters: Mapping[str, Source | Sequence[Source]] | None = None,
        draft: str | Path | None = None,
        speculate: Speculate = "off",
        progress: Progress | None = None,
    ) -> None:
        check_speculation(speculate, draft)
        self.path = find_model(model)
        reader = open_model_file(self.path)
        try:
            self.config: Config = config_of(reader)
            self.context = default_context(context, self.config)
            self.tokenizer = (
                tokenizer if isinstance(tokenizer, Tokenizer) else find_tokenizer(reader, tokenizer, self.config.vocab)
            )
            self.name = _name(reader, self.path)
            self._template: ChatTemplate | None = (
                None if chat_template is None else make_template(chat_template, self.tokenizer, self.name)
            )
            ops = make_ops(device, threads, deterministic=deterministic)
            weights = load(Watched(reader, progress) if progress else reader, ops)
            adapter_kind = kind_beside(reader)
        finally:
            reader.close()
        self._engine: Engine[Any, Any] | None = Engine(
            ops, weights, context=self.context, room=room, cache=cache, vocab=self.tokenizer.vocab_size
        )
        self._constraints = Constraints(self.tokenizer)
        add_adapters(self._engine.adapters, adapters or {}, self.config, adapter_kind)
        self._engine.speculation = make_speculation(
            self._engine, self.tokenizer, speculate=speculate, draft=draft, progress=progress
        )
        self._turn = threading.RLock()  # texts that are only read take turns: each may need the whole cache

    @property
    def chat_template(self) -> ChatTemplate:
        """The chat format in use: the one given, the file's own, or the built-in one that its vocabulary speaks.

        A model that has none is "plain": it goes on where the conversation stops.
        """
        if self._template is None:
            self._template = make_template(None, self.tokenizer, self.name)
        return self._template

    @property
    def engine(self) -> Engine[Any, Any]:
        """What writes: weights and cache. Raises SettingError once the model is closed."""
        if self._engine is None:
            raise SettingError(f"{self!r} is closed; open it again with Llama(...)")
        return self._engine

    @overload
    def generate(
        self, prompt: str | Sequence[int], *, stream: Literal[False] = ..., **options: Unpack[TextOptions]
    ) -> Completion: ...
    @overload
    def generate(
        self, prompt: str | Sequence[int], *, stream: Literal[True], **options: Unpack[TextOptions]
    ) -> Stream: ...
    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        stream: bool = False,
        max_tokens: int | None = None,
        stop: Stop = None,
        logprobs: int | None = None,
        overflow: Overflow = "error",
        keep: int | None = None,
        special: bool = False,
        adapter: str | None = None,
        json_schema: Schema | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        progress: Progress | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Completion | Stream:
        """Go on where a text, or a list of token ids, stops.

        max_tokens: at most so many new tokens; None for as many as the context has room for. stop: one or more texts
        that end the answer and are not part of it. stream: give the pieces as they come. logprobs: report each
        token's logarithm and those of so many likeliest. overflow, keep: what to do when the tokens do not fit, and
        how many of the first to keep then (None for BOS); see engine/context.py. special: find special tokens such
        as <|eot_id|> in the text; otherwise they are plain text. adapter: the name of the one to write with.
        json_schema, regex, grammar: the form that the whole answer has, at most one of them; see engine/form.py. An
        answer whose room runs out is closed in time where that is possible, with finish_reason "length". progress:
        told while a long prompt is read. The rest: see `Sampling`.

        Raises SettingError for an option that is unknown or out of range, or a form that cannot be enforced, and
        ContextOverflow for a prompt that does not fit, all before any work; WeightsError for a model whose output is
        not finite.
        """
        read = text_prompt(self.tokenizer, prompt, special=special, keep=keep)
        options = {"max_tokens": max_tokens, "overflow": overflow, "logprobs": logprobs, "adapter": adapter}
        form = form_of(json_schema=json_schema, regex=regex, grammar=grammar)
        settings = Sampling.of(sampling, also=("stream", *TextOptions.__annotations__))
        return self._answer(read, stream, stop, form, options, settings, progress)

    @overload
    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, stream: Literal[False] = ..., **options: Unpack[ChatOptions]
    ) -> Completion: ...
    @overload
    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, stream: Literal[True], **options: Unpack[ChatOptions]
    ) -> Stream: ...
    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        stream: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_variables: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        stop: Stop = None,
        logprobs: bool = False,
        top_logprobs: int = 0,
        overflow: Overflow = "error",
        adapter: str | None = None,
        json_schema: Schema | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        progress: Progress | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Completion | Stream:
        """The assistant's next message in a conversation; `.message` of the answer is it.

        messages: mappings with `role` and `content`, as in the OpenAI API. tools: JSON schemas the template shows.
        template_variables: the template's own, such as `date_string`. overflow: "truncate" and "shift" first leave
        out the oldest messages after the system's, whole; see engine/context.py for the rest. Everything else: see
        `generate`. Raises also TemplateError for messages that the template refuses.
        """
        read = chat_prompt(
            self.chat_template,
            self.tokenizer,
            messages,
            tools=tools,
            variables=template_variables or {},
            room=None if overflow == "error" else chat_room(self.context, max_tokens),
        )
        if top_logprobs and not logprobs:
            raise SettingError(f"top_logprobs={top_logprobs} asks for logprobs=True too")
        top = top_logprobs if logprobs else None
        options = {"max_tokens": max_tokens, "overflow": overflow, "logprobs": top, "adapter": adapter}
        form = form_of(json_schema=json_schema, regex=regex, grammar=grammar)
        settings = Sampling.of(sampling, also=("stream", *ChatOptions.__annotations__))
        return self._answer(read, stream, stop, form, options, settings, progress)

    def make_constraint(self, form: Form) -> Constraint:
        """What keeps answers to a form; requests may share it. The first one of a model takes 0.1 to 1 s.

        Raises SettingError for a form that is broken or cannot be enforced, naming the place.
        """
        return self._constraints.of(form)

    def tokenize(self, text: str, *, bos: bool = True, special: bool = False) -> list[int]:
        """The ids of a text. bos: begin with BOS where the model uses one. special: find special tokens in it."""
        return self.tokenizer.encode(text, bos=bos, special=special)

    def detokenize(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of some ids. special: show control tokens by name instead of leaving them out."""
        return self.tokenizer.decode(ids, special=special)

    def logits(
        self, prompt: str | Sequence[int], *, adapter: str | None = None, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """What the model thinks comes after each token of the prompt: logits (tokens, vocab)."""
        ids = text_prompt(self.tokenizer, prompt).ids
        with self._turn:
            return self.engine.logits(ids, progress, adapter)

    def embed(
        self, text: str | Sequence[str], *, adapter: str | None = None, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """The meaning of a text as a vector of length 1 (dim,), or of several as rows (texts, dim).

        It is the mean, over all tokens, of what the last layer gives after the final norm. A Llama was not trained
        for this; texts are best compared by the product of their vectors. progress: told how many texts are done, and
        how many there are.
        """
        texts = [text_prompt(self.tokenizer, one).ids for one in ([text] if isinstance(text, str) else text)]
        with self._turn:
            rows = self.engine.embeddings(texts, progress, adapter)
        return rows[0] if isinstance(text, str) else rows

    def close(self) -> None:
        """Let go of weights and cache. Using the model afterwards is a SettingError."""
        self._engine = None

    def __enter__(self) -> Llama:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Llama({str(self.path)!r}, context={self.context})"

    def _answer(
        self,
        prompt: Prompt,
        stream: bool,
        stop: Stop,
        form: Form | None,
        options: Mapping[str, Any],
        sampling: Sampling,
        progress: Progress | None,
    ) -> Completion | Stream:
        request = Request(
            prompt=tuple(prompt.ids),
            keep=prompt.keep,
            sampling=sampling,
            stop_ids=self.tokenizer.stop_ids,
            constraint=self.make_constraint(form) if form else None,
            **options,
        )
        engine = self.engine
        run, stops = engine.plan(request), Stops(_stops(stop))
        decoder = self.tokenizer.stream(start=prompt.fresh and not form)  # a form may begin with a space
        pieces = generate_text(engine, run, decoder, stops, progress, whole=not stream)
        answer = Stream(pieces, run, stops, prompt.dropped)
        if stream:
            return answer
        for _ in answer:
            pass
        return answer.completion


def default_context(wanted: int | None, config: Config) -> int:
    """How many tokens a model may see at once: as many as wanted, or its own, at most 8192. Raises SettingError."""
    if wanted is None:
        return min(config.context, _CONTEXT)
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 2 <= wanted <= config.context:
        raise SettingError(
            f"context must be a whole number from 2 to the model's own, {config.context}; got {wanted!r}"
        )
    return wanted


def _name(reader: Reader, path: Path) -> str:
    name = reader.metadata.get("general.name") or reader.metadata.get("_name_or_path")
    return name if isinstance(name, str) else path.stem


def _stops(stop: Stop) -> tuple[str, ...]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)
