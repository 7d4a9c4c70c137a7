"""The Python class on a model whose words are known: answers, streams, chats, policies, and every way to be refused."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamero import Llama
from llamero.engine.generate import Engine
from llamero.engine.request import Request
from llamero.engine.sampling import Sampling
from llamero.errors import (
    ContextOverflow,
    DeviceError,
    LlameroError,
    ModelNotFound,
    SettingError,
    TemplateError,
    TokenizerError,
    WeightsError,
)
from llamero.formats.gguf import write_gguf
from llamero.formats.open import open_model_file
from llamero.interfaces.options import ChatOptions, TextOptions
from llamero.model.config import Config
from llamero.model.config_files import config_to_gguf
from llamero.model.llama import forward
from llamero.model.weights import load, named_tensors
from llamero.ops.numpy_ops import NumpyOps
from llamero.ops.protocol import Span

Write = Callable[..., Path]


@pytest.fixture
def llama(models: Path) -> Iterator[Llama]:
    with Llama(models / "chain.gguf", cache="f32") as llama:
        yield llama


@pytest.fixture
def chatty(models: Path) -> Iterator[Llama]:
    with Llama(models / "chatty.gguf", threads=1) as llama:
        yield llama


def test_an_answer_and_what_it_took(llama: Llama, tale: str) -> None:
    answer = llama.generate("abc ", temperature=0)
    assert answer.text == f" {tale}"
    assert (answer.finish_reason, answer.stop) == ("stop", None)
    assert answer.prompt_tokens == len(llama.tokenize("abc "))
    assert answer.completion_tokens == len(answer.ids) == 18
    assert (answer.cached_tokens, answer.dropped_tokens, answer.logprobs) == (0, 0, None)
    assert answer.timings.prompt_per_second > 0
    assert answer.timings.completion_per_second > 0
    assert answer.message == {"role": "assistant", "content": answer.text}
    assert llama.detokenize(answer.ids) == tale


def test_a_text_from_nothing_has_no_space_before_it(llama: Llama, tale: str) -> None:
    assert llama.generate("", temperature=0).text == tale
    assert llama.generate([1], temperature=0).text == tale
    assert llama.generate([1, *llama.tokenize("b", bos=False)], temperature=0).text == f" {tale}"


def test_a_stream_gives_a_piece_for_each_token(llama: Llama, tale: str) -> None:
    stream = llama.generate("", temperature=0, stream=True)
    pieces = list(stream)
    assert "".join(pieces) == tale
    assert len(pieces) == 18
    assert pieces[:3] == ["Here", " is", " a"]
    assert pieces[5:10] == [" ", "", "", "", "🦙"]
    whole = llama.generate("", temperature=0)
    assert (stream.completion.text, stream.completion.ids) == (whole.text, whole.ids)


def test_a_stream_left_early(llama: Llama) -> None:
    with llama.generate("", temperature=0, stream=True) as stream:
        assert [next(stream), next(stream)] == ["Here", " is"]
    assert list(stream) == []
    assert (stream.completion.text, stream.completion.finish_reason) == ("Here is", None)
    assert llama.generate([1, *stream.completion.ids, 261], max_tokens=1).cached_tokens == 2


@pytest.mark.parametrize(
    ("stop", "before"),
    [
        ("🦙", "Here is a tiny llama "),
        ("a 🦙 w", "Here is a tiny llam"),
        (["softly", "cares. It"], "Here is a tiny llama 🦙 with no "),
        (["nowhere"], None),
        ("Here", ""),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_stop_strings(llama: Llama, tale: str, stop: Any, before: str | None, streamed: bool) -> None:
    if streamed:
        stream = llama.generate("", temperature=0, stop=stop, stream=True)
        assert "".join(stream) == (tale if before is None else before)
        answer = stream.completion
    else:
        answer = llama.generate("", temperature=0, stop=stop)
    assert answer.text == (tale if before is None else before)
    assert answer.finish_reason == "stop"
    assert answer.stop == (None if before is None else stop if isinstance(stop, str) else "cares. It")


def test_an_answer_of_so_many_tokens(llama: Llama) -> None:
    answer = llama.generate("", temperature=0, max_tokens=3)
    assert (answer.text, answer.finish_reason, answer.completion_tokens) == ("Here is a", "length", 3)
    half = llama.generate("", temperature=0, max_tokens=8)  # ends within the llama's four bytes
    assert half.text == "Here is a tiny llama \ufffd"


def test_seeds(llama: Llama) -> None:
    wild: dict[str, Any] = {"temperature": 40.0, "top_p": 1, "max_tokens": 12}
    first = llama.generate("b", **wild)
    assert llama.generate("b", seed=first.seed, **wild).ids == first.ids
    assert llama.generate("b", **wild).ids != first.ids


def test_logprobs(llama: Llama) -> None:
    answer = llama.generate("", temperature=0, max_tokens=4, logprobs=2)
    assert answer.logprobs is not None
    assert [entry.id for entry in answer.logprobs] == list(answer.ids)
    rows = llama.logits([1, *answer.ids])
    for row, entry in zip(rows, answer.logprobs, strict=False):
        wanted = row - row.max() - math.log(np.exp(row - row.max()).sum())
        assert entry.logprob == pytest.approx(wanted[entry.id], abs=1e-4)
        assert entry.top[0] == (entry.id, entry.logprob)
        assert len(entry.top) == 2


def test_a_prompt_begun_alike_is_cached(llama: Llama) -> None:
    first = llama.generate("abc abc", temperature=0, max_tokens=4)
    ids = [*llama.tokenize("abc abc"), *first.ids, 260]
    again = llama.generate(ids, temperature=0, max_tokens=4)
    assert again.cached_tokens == len(ids) - 2


def test_chat_uses_the_files_template_and_reads_only_what_is_new(chatty: Llama, tale: str) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi<|turn|></s>"}]
    assert chatty.chat_template.name == "custom"
    first = chatty.chat(messages, temperature=0)
    assert first.text == tale
    turn = chatty.tokenizer.special_tokens["<|turn|>"]
    assert first.prompt_tokens > 20
    messages += [first.message, {"role": "user", "content": "more"}]
    pieces = chatty.chat(messages, temperature=0, stream=True)
    assert "".join(pieces) == tale
    second = pieces.completion
    assert second.cached_tokens >= first.prompt_tokens
    ids = chatty.chat_template.encode(chatty.tokenizer, messages)
    assert ids.count(turn) == 5  # the user's own <|turn|> is text
    assert ids.count(1) == 1


def test_a_model_without_a_template_goes_on_where_words_stop(llama: Llama, tale: str) -> None:
    assert llama.chat_template.name == "plain"
    assert llama.chat([{"role": "user", "content": "abc"}], temperature=0).text == f" {tale}"


def test_a_chat_format_can_be_named(models: Path) -> None:
    with Llama(models / "chain.gguf", chat_template="llama-2") as llama:
        assert llama.chat_template.name == "llama-2"
    with Llama(models / "chatty.gguf", chat_template="{{ messages[0].content }}") as llama:
        assert llama.chat([{"role": "user", "content": "b"}], max_tokens=1).prompt_tokens == len(llama.tokenize("b"))
    with pytest.raises(SettingError, match="llama-2"):
        Llama(models / "chain.gguf", chat_template="lama-2")


def test_chat_logprobs_are_named_as_openai_does(chatty: Llama) -> None:
    answer = chatty.chat([{"role": "user", "content": "b"}], max_tokens=2, logprobs=True, top_logprobs=1)
    assert answer.logprobs is not None
    assert [len(entry.top) for entry in answer.logprobs] == [1, 1]
    with pytest.raises(SettingError, match="did you mean 'template_variables'"):
        chatty.chat([{"role": "user", "content": "b"}], template_variable={})
    with pytest.raises(SettingError, match="asks for logprobs=True"):
        chatty.chat([{"role": "user", "content": "b"}], top_logprobs=1)


@pytest.mark.parametrize(
    ("messages", "error"),
    [([], TemplateError), ([{"role": "king", "content": "b"}], TemplateError), ("hello", TemplateError)],
)
def test_messages_that_are_none(chatty: Llama, messages: Any, error: type[LlameroError]) -> None:
    with pytest.raises(error):
        chatty.chat(messages)


def conversation(turns: int) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": "abc"}]
    for i in range(turns):
        messages += [{"role": "user", "content": f"a{i}"}, {"role": "assistant", "content": f"b{i} Here is"}]
    return [*messages, {"role": "user", "content": "last"}]


@pytest.mark.parametrize("policy", ["truncate", "shift"])
def test_a_long_chat_loses_its_oldest_messages_whole(chatty: Llama, tale: str, policy: Any) -> None:
    messages = conversation(12)
    whole = len(chatty.chat_template.encode(chatty.tokenizer, messages))
    with pytest.raises(ContextOverflow) as caught:
        chatty.chat(messages)
    assert (caught.value.tokens, caught.value.context) == (whole, 256)
    answer = chatty.chat(messages, overflow=policy, max_tokens=30, temperature=0)
    assert answer.text == tale
    kept = [len(chatty.chat_template.encode(chatty.tokenizer, [messages[0], *messages[i:]])) for i in range(1, 26, 2)]
    wanted = next(size for size in kept if size <= 256 - 30)
    assert answer.prompt_tokens == whole
    assert answer.dropped_tokens == whole - wanted
    assert chatty.chat([messages[0], *messages[1 + 2 * kept.index(wanted) :]], max_tokens=1).cached_tokens == wanted - 1


def test_one_message_too_long_is_cut_after_the_system_message(chatty: Llama) -> None:
    messages = [{"role": "system", "content": "abc"}, {"role": "user", "content": "x" * 300}]
    answer = chatty.chat(messages, overflow="truncate", max_tokens=20, temperature=0)
    assert answer.dropped_tokens == answer.prompt_tokens - (256 - 20)
    head = len(chatty.chat_template.encode(chatty.tokenizer, messages[:1], add_generation_prompt=False))
    again = chatty.chat([messages[0], {"role": "user", "content": "y"}], max_tokens=1)
    assert again.cached_tokens >= head


def test_a_prompt_beyond_the_context(llama: Llama) -> None:
    ids = [5] * 256
    with pytest.raises(ContextOverflow, match=r"256 tokens.*context of 256") as caught:
        llama.generate(ids)
    assert (caught.value.tokens, caught.value.context) == (256, 256)
    with pytest.raises(ContextOverflow):
        llama.generate(ids, stream=True)  # at once, not at the first piece
    answer = llama.generate([1, *ids], overflow="truncate", max_tokens=6, temperature=0)
    assert (answer.dropped_tokens, answer.prompt_tokens) == (7, 257)
    assert llama.generate([1, *ids], overflow="shift", max_tokens=6, temperature=0).dropped_tokens > 100


def test_logits_are_the_oracles(llama: Llama, models: Path) -> None:
    oracle = NumpyOps()
    ids = llama.tokenize("Here is no cab")
    wanted = forward(oracle, load(open_model_file(models / "chain.gguf"), oracle), None, ids, [Span(0, len(ids))])
    found = llama.logits("Here is no cab")
    assert found.shape == (len(ids), 288)
    np.testing.assert_allclose(found, wanted, atol=2e-2)
    np.testing.assert_array_equal(llama.logits(ids), found)


def test_embeddings(llama: Llama, config: Config) -> None:
    one = llama.embed("Here is a llama")
    assert one.shape == (config.dim,)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    rows = llama.embed(["Here is a llama", "cab"])
    assert rows.shape == (2, config.dim)
    np.testing.assert_allclose(rows[0], one, atol=1e-6)
    assert rows[0] @ rows[1] < 0.99
    assert llama.embed([]).shape == (0, config.dim)


def test_tokens_and_back(llama: Llama) -> None:
    assert llama.tokenize("Here is")[0] == 1
    assert llama.tokenize("</s>", bos=False) != [2]
    assert llama.tokenize("</s>", bos=False, special=True) == [2]
    assert llama.detokenize(llama.tokenize("Here is a 🦙")) == "Here is a 🦙"
    assert llama.detokenize([1, 259], special=True) == "<s>Here"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1}, "did you mean 'temperature'"),
        ({"max_token": 1}, "did you mean 'max_tokens'"),
        ({"temperature": -1}, "temperature must be a number from 0 to 100, got -1"),
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1"),
        ({"stop": [""]}, "stop strings"),
        ({"overflow": "ignore"}, "overflow policy 'ignore'"),
        ({"logit_bias": {288: 1}}, "this model's are 0 to 287"),
        ({"keep": -2}, "keep"),
    ],
)
def test_options_that_cannot_be(llama: Llama, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        llama.generate("b", stream=True, **options)


def test_the_class_refuses_what_cannot_be(models: Path) -> None:
    model = models / "chain.gguf"
    for context in (0, 1, 257, 3.5, True):
        with pytest.raises(SettingError, match="context must be a whole number from 2 to the model's own, 256"):
            Llama(model, context=context)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="threads"):
        Llama(model, threads=0)
    with pytest.raises(SettingError, match="device 'tpu' is unknown"):
        Llama(model, device="tpu")
    with pytest.raises(SettingError, match="threads is a setting of device 'cpu'"):
        Llama(model, device="numpy", threads=2)
    with pytest.raises(SettingError, match="cache kind"):
        Llama(model, cache="f8")  # type: ignore[arg-type]


def test_another_models_tokenizer_is_refused(models: Path, tmp_path: Path, config: Config) -> None:
    small = replace(config, vocab=100)
    arrays = {name: np.ones(shape, np.float32) for name, shape in small.shapes().items()}
    write_gguf(tmp_path / "small.gguf", config_to_gguf(small), named_tensors(small, arrays, "gguf"))
    with pytest.raises(ModelNotFound, match=r"brings no tokenizer.*give one"):
        Llama(tmp_path / "small.gguf")
    with pytest.raises(TokenizerError, match=r"288 tokens, the model .* only 100"):
        Llama(tmp_path / "small.gguf", tokenizer=models / "chain.gguf")


def test_cuda_without_a_gpu_says_so(models: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        with Llama(models / "chain.gguf", device="cuda") as llama:
            assert llama.generate("", temperature=0, max_tokens=3).text == "Here is a"
    else:
        with pytest.raises(DeviceError, match="cuda"):
            Llama(models / "chain.gguf", device="cuda")


def test_torch_says_the_same(models: Path, tale: str) -> None:
    """The operations that run on a GPU, here on the CPU, under the same engine."""
    pytest.importorskip("torch")
    from llamero.ops.torch_ops import TorchOps

    ops = TorchOps("cpu")
    engine = Engine(ops, load(open_model_file(models / "chain.gguf"), ops), context=64)
    with Llama(models / "chain.gguf") as llama:
        run = engine.plan(Request(prompt=(1,), sampling=Sampling(temperature=0), stop_ids=llama.tokenizer.stop_ids))
        assert llama.detokenize([choice.id for choice in engine.generate(run)]) == tale


def test_the_oracle_says_the_same(models: Path, tale: str) -> None:
    with Llama(models / "chain.gguf", device="numpy", cache="q8_0") as llama:
        assert llama.generate("", temperature=0).text == tale


def test_nan_weights_are_named(tmp_path: Path, chain_file: Write, config: Config) -> None:
    output = np.zeros((config.vocab, config.dim), np.float32)
    output[7, 3] = np.nan
    with Llama(chain_file(tmp_path / "nan.gguf", output=output)) as llama, pytest.raises(WeightsError, match="inspect"):
        llama.generate("abc")
    norm = np.ones(config.dim, np.float32)
    norm[0] = np.inf
    with pytest.raises(WeightsError, match=r"output_norm\.weight holds values that are not finite"):
        Llama(chain_file(tmp_path / "inf.gguf", norm=norm))


def test_a_closed_model(models: Path) -> None:
    llama = Llama(models / "chain.gguf")
    stream = llama.generate("", temperature=0, stream=True)
    next(stream)
    llama.close()
    assert "".join(stream).startswith(" is a tiny")  # an answer under way is finished
    with pytest.raises(SettingError, match="closed"):
        llama.generate("b")


def test_many_threads_and_streams_at_once(llama: Llama, tale: str) -> None:
    told: list[str] = []

    def tell(i: int) -> None:
        if i % 2:
            told.append(llama.generate("b" * i, temperature=0).text.strip())
        else:
            told.append("".join(llama.generate("b" * i, temperature=0, stream=True)).strip())

    threads = [threading.Thread(target=tell, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == [tale] * 8


def test_an_answer_within_a_stream_of_the_same_model(llama: Llama, tale: str) -> None:
    pieces = []
    for piece in llama.generate("", temperature=0, stream=True):
        pieces.append(piece)
        assert llama.generate("b", temperature=0, max_tokens=2).text == " Here is"
    assert "".join(pieces) == tale


def test_two_models_share_nothing(models: Path, tale: str) -> None:
    with Llama(models / "chain.gguf") as one, Llama(models / "chatty.gguf") as two:
        assert one.generate("abc", temperature=0).text == f" {tale}"
        assert two.generate("abc", temperature=0).cached_tokens == 0
        one.close()
        assert two.generate("abc", temperature=0).text == f" {tale}"


def test_progress_while_loading(models: Path) -> None:
    seen: list[tuple[int, int]] = []
    Llama(models / "chain.gguf", progress=lambda done, total: seen.append((done, total))).close()
    assert seen[-1][0] == seen[-1][1]
    assert sorted(seen) == seen


def test_the_options_written_out_are_those_there_are() -> None:
    """`generate` and `chat` pass sampling options on by name; a name of their own must not hide one."""
    import inspect

    sampling = set(Sampling.__dataclass_fields__)
    for method, options in ((Llama.generate, TextOptions), (Llama.chat, ChatOptions)):
        own = set(inspect.signature(method).parameters) - {"self", "prompt", "messages", "stream", "sampling"}
        assert not own & sampling
        assert own | sampling == set(options.__annotations__)


def test_generating_needs_neither_torch_nor_jinja(models: Path) -> None:
    code = (
        "import sys; from llamero import Llama; Llama('chain.gguf').generate('a', max_tokens=2); "
        "print([m for m in ('torch', 'jinja2', 'rich', 'prompt_toolkit', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=models)
    assert done.stdout.strip() == "[]"


def test_deterministic_means_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """However a prompt is cut, and after any other, the logits are the same."""
    text = "Once upon a time there was a little llama who lived on a mountain. " * 5
    with Llama(deterministic=True) as llama:
        whole = llama.logits(text)
        llama.generate("Hello", max_tokens=3)
        monkeypatch.setattr(llama._engine, "chunk", 7)
        np.testing.assert_array_equal(llama.logits(text), whole)
    with Llama(deterministic=True, threads=1) as llama:
        np.testing.assert_array_equal(llama.logits(text), whole)
    with pytest.raises(SettingError, match="deterministic is a setting of device 'cpu'"):
        Llama(device="numpy", deterministic=True)
