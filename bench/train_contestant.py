"""Trains one contestant for some seconds and prints its speed: what bench/train.py runs, each in a process of its own.

    python bench/train_contestant.py litgpt '{"shape": "stories-15m", "dtype": "bf16", "micro": 4, "compile": true, \\
        "sequences": 8, "context": 512, "threads": 2, "seconds": 10}'

A step is one update from `sequences` sequences of random ids, `micro` of them at once: forward, backward, clipping,
AdamW (fused). The last line printed is JSON: tokens a second (the median step), seconds of each step, peak of resident
memory in MB, and what the machine can do at most, measured right after.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llamero.model.config import Config
from llamero.model.family import by_name
from llamero.ops.limits import measure_limits
from llamero.ops.native_ops import NativeOps

_FEWEST = 3  # steps that are timed, after one that is not


@dataclass(frozen=True)
class Job:
    """What to train, and how. micro divides sequences. nanochat: folder of that repository's checkout. recompute: ours
    alone, see NextToken."""

    shape: str
    dtype: str
    micro: int
    compile: bool
    sequences: int
    context: int
    threads: int
    seconds: float
    nanochat: str | None = None
    recompute: int = 0

    def __post_init__(self) -> None:
        if self.sequences % self.micro:
            raise SystemExit(f"{self.sequences} sequences are not whole times {self.micro}")

    @property
    def config(self) -> Config:
        return by_name(self.shape)

    @property
    def torch_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.dtype == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast("cpu", torch.bfloat16) if self.dtype == "bf16" else nullcontext()

    def rows(self) -> Iterator[torch.Tensor]:
        """Random ids (micro, context + 1), without end."""
        generator = torch.Generator().manual_seed(0)
        while True:
            yield torch.randint(0, self.config.vocab, (self.micro, self.context + 1), generator=generator)


def timed(job: Job, step: Callable[[], object]) -> list[float]:
    """Seconds of each step, for as long as the job says."""
    step()
    seconds: list[float] = []
    while sum(seconds) < job.seconds or len(seconds) < _FEWEST:
        begun = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begun)
    return seconds


def plain(job: Job, model: torch.nn.Module, loss_of: Callable[[Any, torch.Tensor], torch.Tensor]) -> list[float]:
    """The usual loop around a model: micro-batches, clipping, fused AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ready: Any = torch.compile(model) if job.compile else model
    rows, parts = job.rows(), job.sequences // job.micro

    def step() -> None:
        for _ in range(parts):
            with job.autocast():
                loss = loss_of(ready, next(rows)) / parts
            torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return timed(job, step)


def llamero(job: Job) -> list[float]:
    """Our loop as it is: `Run.advance`."""
    from llamero.ops.torch_ops import TorchOps
    from llamero.training.data.batches import Batches
    from llamero.training.data.tokens import Tokens
    from llamero.training.loop import Run, Settings
    from llamero.training.parameters import fresh, weights
    from llamero.training.pretrain import NextToken
    from llamero.training.schedule import Cosine

    config = job.config
    parameters = fresh(config, seed=0)
    ids = np.random.default_rng(0).integers(0, config.vocab, 1 << 20, dtype=np.uint16)
    run = Run(
        parameters,
        NextToken(TorchOps("cpu", job.torch_dtype), weights(config, parameters), recompute=job.recompute),
        Batches(Tokens.of(ids), context=job.context, sequences=job.sequences),
        Settings(Cosine(peak=1e-4, warmup=10, steps=100_000), micro=job.micro),
    )
    return timed(job, run.advance)


def transformers_model(job: Job) -> torch.nn.Module:
    """The same shape in transformers, weights in float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = job.config
    options: dict[str, Any] = {"attn_implementation": "sdpa"}
    blueprint = LlamaConfig(
        vocab_size=config.vocab,
        hidden_size=config.dim,
        intermediate_size=config.ffn_dim,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=job.context,
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tied,
        use_cache=False,
        **options,
    )
    torch.manual_seed(0)
    model: torch.nn.Module = LlamaForCausalLM(blueprint)
    return model


class Clock:
    """Notes when each of a Trainer's steps ends, and stops it when the time is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.ends = seconds, list[float]()

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Callback(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ARG002
                clock.ends.append(time.perf_counter())
                enough = len(clock.ends) > _FEWEST
                control.should_training_stop = enough and clock.ends[-1] - clock.ends[0] >= clock.seconds
                return control

        return Callback()


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Random rows for a Trainer."""

    def __init__(self, job: Job) -> None:
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(0, job.config.vocab, (4096, job.context), generator=generator)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[index], "labels": self.ids[index]}


def trainer(job: Job) -> list[float]:
    """Hugging Face's Trainer around transformers' Llama."""
    import tempfile

    from transformers import Trainer, TrainingArguments

    clock = Clock(job.seconds)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            bf16=job.dtype == "bf16",
            torch_compile=job.compile,
            per_device_train_batch_size=job.micro,
            gradient_accumulation_steps=job.sequences // job.micro,
            max_steps=100_000,
            optim="adamw_torch_fused",
            max_grad_norm=1.0,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        model = transformers_model(job)
        Trainer(model=model, args=arguments, train_dataset=Rows(job), callbacks=[clock.callback()]).train()
    return [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]


def litgpt(job: Job) -> list[float]:
    """litgpt's GPT as a Llama, its own loss, in the loop of its `pretrain` (autocast as Fabric's bf16-mixed)."""
    from litgpt.config import Config as Blueprint
    from litgpt.model import GPT
    from litgpt.utils import chunked_cross_entropy

    config = job.config
    blueprint = Blueprint(
        name=job.shape,
        block_size=job.context,
        vocab_size=config.vocab,
        padded_vocab_size=config.vocab,
        n_layer=config.layers,
        n_head=config.heads,
        n_query_groups=config.kv_heads,
        n_embd=config.dim,
        intermediate_size=config.ffn_dim,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=config.norm_eps,
        mlp_class_name="LLaMAMLP",
    )
    model = GPT(blueprint)
    model.max_seq_length = job.context
    if config.tied:
        model.transformer.wte.weight = model.lm_head.weight

    def loss_of(ready: Any, ids: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = chunked_cross_entropy(ready(ids[:, :-1]), ids[:, 1:], chunk_size=0)
        return loss

    return plain(job, model, loss_of)


def nanochat(job: Job) -> list[float]:
    """nanochat's GPT of the same width, depth and products (its feed-forward is 4 dim wide, without a gate)."""
    import os

    os.environ["NANOCHAT_DTYPE"] = {"bf16": "bfloat16", "f32": "float32"}[job.dtype]
    sys.path.insert(0, str(Path(job.nanochat or "")))
    from nanochat.gpt import GPT, GPTConfig

    config = job.config
    with torch.device("meta"):
        model = GPT(
            GPTConfig(
                sequence_len=job.context,
                vocab_size=config.vocab,
                n_layer=config.layers,
                n_head=config.heads,
                n_kv_head=config.kv_heads,
                n_embd=config.dim,
                window_pattern="L",
            )
        )
    model.to_empty(device="cpu")
    model.init_weights()

    def loss_of(ready: Any, ids: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = ready(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        return loss

    # It casts by itself: autocast off.
    object.__setattr__(job, "autocast", nullcontext)
    return plain(job, model, loss_of)


CONTESTANTS: dict[str, Callable[[Job], list[float]]] = {
    "llamero": llamero,
    "trainer": trainer,
    "litgpt": litgpt,
    "nanochat": nanochat,
}


def main() -> None:
    name, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    torch.set_num_threads(job.threads)
    seconds = CONTESTANTS[name](job)
    tokens = job.sequences * job.context
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    limits = asdict(measure_limits(NativeOps(job.threads), 1 << 24))
    speed = tokens / statistics.median(seconds)
    print(json.dumps({"speed": speed, "seconds": seconds, "memory": memory, "limits": limits}))


if __name__ == "__main__":
    main()
