"""Making a bundle: the launcher, the engine, the model, licences, and a manifest of all that."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final

from llamero.errors import DeviceError, SettingError
from llamero.formats.bundle import Progress
from llamero.formats.bundle_write import BundleWriter, bundle_file
from llamero.formats.gguf import GGUF, Typed, ValueType
from llamero.formats.gguf_write import stream_gguf
from llamero.formats.lineage import lineage
from llamero.formats.lineage.digest import FILE_NAME
from llamero.formats.lineage.record import Lineage, identity, to_text
from llamero.formats.mapped import Mapped
from llamero.formats.open import open_model_file
from llamero.formats.tensor import Reader
from llamero.interfaces.bundle.engine import Engine, collect
from llamero.interfaces.bundle.licences import Licence, engine_licences, model_texts
from llamero.interfaces.bundle.pack import pack
from llamero.interfaces.loading import Watched, find_tokenizer
from llamero.interfaces.models import find_model
from llamero.interfaces.prompts import make_template
from llamero.model.config import Config
from llamero.model.config_files import config_to_gguf
from llamero.model.weights import check, config_of, export
from llamero.tokenizer.tokenizer import Tokenizer

_CHUNK: Final = 1 << 24

Stage = Callable[[str], AbstractContextManager[Progress]]
"""Something that shows how far a stage of the work has come: given its name, a context that gives what to tell."""


@dataclass(frozen=True)
class Settings:
    """What the bundle does unless its user says otherwise; None is what llamero does."""

    context: int | None = None
    system: str | None = None
    chat_template: str | None = None  # a built-in one's name, or Jinja source

    def given(self) -> dict[str, Any]:
        """Those that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


@contextmanager
def _unseen(_title: str) -> Iterator[Progress]:
    yield lambda _done, _total: None


def make_bundle(
    model: str | Path | None,
    out: str | Path,
    *,
    tokenizer: str | Path | None = None,
    settings: Settings | None = None,
    licences: Sequence[str | Path] = (),
    engine: Engine | None = None,
    stage: Stage = _unseen,
) -> Path:
    """Write one program file with a model inside -> its path.

    model: see `interfaces/models.py`. A GGUF file that brings its tokenizer is kept byte for byte; anything else is
    written as GGUF, its tensors in the types that they have. tokenizer: one for files that bring none. licences: texts
    to put in, beside those that lie in the model's own folder. engine: None takes this installation's.

    Raises SettingError, DeviceError where no bundle can be made here, and what opening a model raises; then there is
    no file, or that which was there before.
    """
    out, settings = Path(out), settings or Settings()
    if out.is_dir():
        raise SettingError(f"{out} is a folder; give the file that is to be made")
    launcher, path = _launcher(), find_model(model)
    if out.exists() and out.samefile(path):
        raise SettingError(f"{out} is the model itself; give the bundle another name")
    texts = _texts(path, licences)
    reader = open_model_file(path)
    try:
        source = _Model(reader, tokenizer, settings, lineage.read(path))
        engine = engine or collect()
        with bundle_file(out, launcher) as writer:
            with stage("packing the engine") as tell:
                index, unpacked = _write_engine(writer, engine, tell)
            with stage("writing the weights") as tell:
                source.write(writer, tell)
            source.write_lineage(writer)
            listed = _write_licences(writer, engine_licences(engine), texts)
            writer.finish(source.about() | _about_engine(engine) | {"licences": listed}, index, unpacked)
    finally:
        reader.close()
    return out


def _texts(model: Path, licences: Sequence[str | Path]) -> list[Path]:
    """The texts about the model's licence, each once: those in its own folder, and those that were given."""
    found = {path.resolve(): path for path in (*model_texts(model), *map(Path, licences))}
    names: set[str] = set()
    for path in found.values():
        if not path.is_file():
            raise SettingError(f"there is no text {path} to put in")
        if path.name in names:
            raise SettingError(f"two texts to put in are called {path.name}; give one of them another name")
        names.add(path.name)
    return list(found.values())


def _launcher() -> bytes:
    native = find_spec("llamero._native")
    beside = Path(native.origin).with_name("_launcher") if native and native.origin else None
    if beside is None or not beside.is_file():
        raise DeviceError("this installation has no launcher for bundles; they are made on Linux, x86-64 or aarch64")
    return beside.read_bytes()


class _Model:
    """A model that has been looked at and found whole, to be written as GGUF."""

    def __init__(
        self, reader: Reader, tokenizer: str | Path | None, settings: Settings, descent: Lineage | None
    ) -> None:
        self.reader, self.settings, self.descent = reader, settings, descent
        self.config: Config = config_of(reader)
        check(reader, self.config)
        self.tokenizer: Tokenizer = find_tokenizer(reader, tokenizer, self.config.vocab)
        if settings.context is not None and not 2 <= settings.context <= self.config.context:
            raise SettingError(f"context must be from 2 to the model's own, {self.config.context}")
        name = reader.metadata.get("general.name")
        self.name = name if isinstance(name, str) else reader.path.stem
        make_template(settings.chat_template, self.tokenizer, self.name)  # refuses one that is unsafe or unknown
        kept = tokenizer is None and isinstance(reader, GGUF) and "tokenizer.ggml.model" in reader.metadata
        self.files: tuple[Mapped, ...] = reader.files if isinstance(reader, GGUF) and kept else ()

    def write(self, writer: BundleWriter, progress: Progress) -> None:
        """Copy the files as they are, or write the model anew."""
        if not self.files:
            with writer.part("model", f"{self.reader.path.stem}.gguf") as into:
                self._convert(into, progress)
            return
        done, total = 0, sum(map(len, self.files))
        for number, file in enumerate(self.files, 1):
            many = f"-{number:05}-of-{len(self.files):05}" if len(self.files) > 1 else ""
            stem = file.path.stem.removesuffix(many) if file.path.suffix == ".gguf" else file.path.name
            with writer.part("model", f"{stem}{many}.gguf") as into:
                for start in range(0, len(file), _CHUNK):
                    done += into.write(file.data[start : start + _CHUNK].data)
                    progress(done, total)

    def _convert(self, into: BinaryIO, progress: Progress) -> None:
        general = {"general.type": "model", "general.name": self.name, "general.quantization_version": _u32(2)}
        about = config_to_gguf(self.config) | general | self.tokenizer.to_gguf()
        if isinstance(self.reader, GGUF):  # only its tokenizer is another's
            kept = {key: value for key, value in self.reader.typed_metadata().items() if "tokenizer." not in key}
            about = kept | self.tokenizer.to_gguf()
        stream_gguf(into, about, export(Watched(self.reader, progress), self.config, "gguf"))

    def write_lineage(self, writer: BundleWriter) -> None:
        """Where the model comes from, wherever that was written: in its file or beside it."""
        if self.descent is not None:
            text = to_text(self.descent, self.reader.path.resolve().parent)
            writer.add("lineage", FILE_NAME, [text.encode()])

    def about(self) -> dict[str, Any]:
        """What the manifest says of the model."""
        types: dict[str, int] = {}
        for info in self.reader.tensors.values():
            types[info.type.name] = types.get(info.type.name, 0) + info.nbytes
        said = {
            key: value
            for key, value in self.reader.metadata.items()
            if key.startswith("general.license") and isinstance(value, str)
        }
        model = {
            "name": self.name,
            "parameters": self.config.parameters,
            "context": self.config.context,
            "bytes_of_types": types,
            "kept_byte_for_byte": bool(self.files),
        }
        if said:
            model["licence"] = said
        if self.descent is not None:
            model["lineage"] = identity(self.descent.record)
        return {"model": model, "settings": self.settings.given()}


def _u32(value: int) -> Typed:
    return Typed(ValueType.U32, value)


def _write_engine(writer: BundleWriter, engine: Engine, progress: Progress) -> tuple[int, int]:
    packed = pack(engine.files, progress)
    with writer.part("engine", "engine") as into:
        into.write(packed.index)
        into.writelines(packed.pieces)
    return len(packed.index), packed.unpacked


def _about_engine(engine: Engine) -> dict[str, Any]:
    return {
        "llamero": version("llamero"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "files": len(engine.files),
    }


def _write_licences(
    writer: BundleWriter, licences: Sequence[Licence], model: Sequence[Path]
) -> list[Mapping[str, str]]:
    listed: list[Mapping[str, str]] = []
    for one in licences:
        if one.text:
            writer.add("licence", f"{one.name}.txt", [one.text.encode()])
        about = {"name": one.name, "version": one.version, "licence": one.licence}
        listed.append(about | ({"text": f"{one.name}.txt"} if one.text else {}))
    for path in model:
        writer.add("licence", f"model/{path.name}", [path.read_bytes()])
        listed.append({"name": "the model", "version": "", "licence": "see its text", "text": f"model/{path.name}"})
    return listed
