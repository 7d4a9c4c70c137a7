"""What is in a model's file, without loading it: blueprint, tensors, tokenizer, chat format, memory, and a hash."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llamero.errors import LlameroError
from llamero.formats.tensor import Reader, TensorInfo
from llamero.interfaces.loading import find_tokenizer
from llamero.model.cache import cache_bytes
from llamero.model.config import Config
from llamero.model.family import FAMILY
from llamero.model.weights import check, config_of
from llamero.tokenizer.tokenizer import Tokenizer

_HASHED_AT_ONCE = 1 << 24  # bytes
_CHUNK = 512  # tokens of a prompt that are read at once


@dataclass(frozen=True)
class TypeTotal:
    """All tensors of one number format."""

    type: str
    tensors: int
    parameters: int
    nbytes: int


@dataclass(frozen=True)
class Memory:
    """Bytes needed at a context length. The weights stay in the mapped file and are shared between processes."""

    context: int
    weights: int
    cache: dict[str, int]  # by how the cache is kept
    work: int  # activations of one chunk of a prompt, and logits; an estimate


@dataclass(frozen=True)
class Report:
    """Everything about a file. problem: why llamero cannot run it, or None; what could not be told then is None."""

    path: str
    layout: str
    name: str | None
    architecture: str | None
    nbytes: int
    parameters: int
    types: tuple[TypeTotal, ...]
    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, Any]
    config: Config | None
    family: str | None
    tokenizer: dict[str, Any] | None
    chat_template: dict[str, Any] | None
    memory: Memory | None
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        tensors = [
            {"name": info.name, "type": info.type.name, "shape": list(info.shape), "nbytes": info.nbytes}
            for info in self.tensors
        ]
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {
            "tensors": tensors,
            "types": [asdict(total) for total in self.types],
            "config": asdict(self.config) if self.config else None,
            "memory": asdict(self.memory) if self.memory else None,
        }


def inspect_model(reader: Reader, context: int | None = None, tokenizer: str | Path | None = None) -> Report:
    """Describe an open file. context: for how many tokens memory is told; None is the model's own, at most 8192."""
    infos = tuple(reader.tensors.values())
    types = _totals(infos)
    config, problem = _config(reader)
    words, refusal = _words(reader, tokenizer, config)
    name = reader.metadata.get("general.name") or reader.metadata.get("_name_or_path")
    return Report(
        path=str(reader.path),
        layout=reader.layout,
        name=name if isinstance(name, str) else None,
        architecture=_architecture(reader.metadata),
        nbytes=sum(total.nbytes for total in types),
        parameters=sum(total.parameters for total in types),
        types=types,
        tensors=infos,
        metadata={key: _brief(value) for key, value in reader.metadata.items()},
        config=config,
        family=next((name for name, known in FAMILY.items() if known == config), None),
        tokenizer=_describe(words) if words else None,
        chat_template=_template(words, name if isinstance(name, str) else reader.path.stem) if words else None,
        memory=_memory(config, context or min(config.context, 8192), types) if config else None,
        problem=problem or refusal,
    )


def weights_hash(reader: Reader, progress: Callable[[int, int], None] | None = None) -> str:
    """SHA-256 of all weights: of every tensor, by name in order, its name, type, shape and stored bytes.

    Metadata, padding and the order of tensors in the file do not count, nor how many files they are spread over.
    """
    digest = hashlib.sha256()
    done, total = 0, sum(info.nbytes for info in reader.tensors.values())
    for name in sorted(reader.tensors):
        tensor = reader.read(name)
        shape = "x".join(map(str, tensor.info.shape))
        digest.update(f"{name}\0{tensor.info.type.name}\0{shape}\0".encode())
        for start in range(0, len(tensor.data), _HASHED_AT_ONCE):
            block = np.ascontiguousarray(tensor.data[start : start + _HASHED_AT_ONCE])
            digest.update(block.data)
            done += len(block)
            if progress:
                progress(done, total)
    return digest.hexdigest()


def _architecture(metadata: Mapping[str, Any]) -> str | None:
    """What the file calls its kind of model; Meta's and llama2.c's files know only one."""
    said = metadata.get("general.architecture", metadata.get("model_type"))
    return said if isinstance(said, str) else None


def _totals(infos: tuple[TensorInfo, ...]) -> tuple[TypeTotal, ...]:
    groups: dict[str, list[TensorInfo]] = defaultdict(list)
    for info in infos:
        groups[info.type.name].append(info)
    totals = (
        TypeTotal(
            name, len(group), sum(int(np.prod(i.shape, dtype=object)) for i in group), sum(i.nbytes for i in group)
        )
        for name, group in groups.items()
    )
    return tuple(sorted(totals, key=lambda total: -total.nbytes))


def _config(reader: Reader) -> tuple[Config | None, str | None]:
    """The blueprint, and what keeps llamero from running it."""
    config = None
    try:
        config = config_of(reader)
        check(reader, config)
    except LlameroError as error:
        return config, str(error)
    return config, None


def _words(reader: Reader, given: str | Path | None, config: Config | None) -> tuple[Tokenizer | None, str | None]:
    try:
        return find_tokenizer(reader, given, config.vocab if config else 1 << 31), None
    except LlameroError as error:
        return None, str(error)


def _describe(tokenizer: Tokenizer) -> dict[str, Any]:
    named = {token: name for name, token in tokenizer.special_tokens.items()}

    def tell(token: int | None) -> dict[str, Any] | None:
        return None if token is None else {"id": token, "text": named.get(token)}

    return {
        "kind": tokenizer.kind,
        "pre": tokenizer.pre,
        "tokens": tokenizer.vocab_size,
        "special": len(tokenizer.special_tokens),
        "bos": tell(tokenizer.bos_id),
        "adds_bos": tokenizer.add_bos,
        "eos": tell(tokenizer.eos_id),
        "stops": [tell(token) for token in sorted(tokenizer.stop_ids)],
    }


def _template(tokenizer: Tokenizer, model: str) -> dict[str, Any]:
    from llamero.tokenizer.chat import ChatTemplate

    source = tokenizer.chat_template
    family = ChatTemplate.detect(source, tokenizer.special_tokens, model=model)
    return {"from": "file" if source is not None else "built in", "family": family, "source": source}


def _memory(config: Config, context: int, types: tuple[TypeTotal, ...]) -> Memory:
    rows = min(_CHUNK, context)
    work = 4 * (rows * (4 * config.dim + 3 * config.ffn_dim + config.heads * config.head_dim) + config.vocab)
    kinds = ("f16", "f32") if config.head_dim % 32 else ("f16", "q8_0", "f32")
    cache = {kind: cache_bytes(config, context, kind) for kind in kinds}  # type: ignore[arg-type]
    return Memory(context, sum(total.nbytes for total in types), cache, work)


def _brief(value: Any) -> Any:
    """A metadata value as JSON; long lists by their length alone."""
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _brief(item) for key, item in value.items()}
    try:
        items = list(value[:9])
    except (TypeError, KeyError):
        return str(value)
    return f"[{len(value)} items]" if len(items) > 8 else [_brief(item) for item in items]
