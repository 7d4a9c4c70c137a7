"""Making bundles: what goes in comes out, the same input gives the same file, and mistakes are refused by name."""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import SettingError
from llamero.formats.bundle import Bundle
from llamero.formats.gguf import GGUF, write_gguf
from llamero.formats.huggingface import write_hf
from llamero.formats.lineage import lineage
from llamero.formats.lineage.record import identity
from llamero.formats.open import open_model_file
from llamero.interfaces.bundle import packages
from llamero.interfaces.bundle.bytecode import bytecode
from llamero.interfaces.bundle.elf import is_elf, loader_of, trimmed
from llamero.interfaces.bundle.engine import Engine, collect, python
from llamero.interfaces.bundle.libraries import Libraries
from llamero.interfaces.bundle.make import make_bundle
from llamero.interfaces.bundle.pack import EngineFile
from llamero.interfaces.bundle.packages import find_packages
from llamero.interfaces.inspection import weights_hash
from llamero.interfaces.loading import find_tokenizer
from llamero.model.config_files import config_to_hf
from llamero.model.weights import config_of, export

EMPTY = Engine((EngineFile("nothing", bytes),), (), Libraries(Path("/lib/loader"), {}))
"""An engine that packs in no time, for bundles that are only looked into."""


def test_the_model_comes_out_byte_for_byte(made: Any, llamero: Any, tmp_path: Path) -> None:
    out = llamero("bundle", "--extract", str(made.path), "-o", str(tmp_path))
    assert out.returncode == 0
    assert (tmp_path / "chatty.gguf").read_bytes() == made.model.read_bytes()
    assert (tmp_path / "licences/model/TERMS.txt").read_text() == "Hum softly.\n"
    assert "Apache License" in (tmp_path / "licences/llamero.txt").read_text()
    assert json.loads((tmp_path / "bundle.json").read_text())["settings"] == {"context": 128, "system": "You hum."}
    again = llamero("bundle", "--extract", str(made.path), "-o", str(tmp_path))
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_what_verify_tells(made: Any, llamero: Any) -> None:
    shown = llamero("bundle", "--verify", str(made.path))
    assert shown.returncode == 0
    for word in ("launcher", "engine", "chatty.gguf", "system = You hum.", "numpy", "Python", "BSD"):
        assert word in shown.stdout
    bundle = Bundle.open(made.path)
    assert bundle.identity in shown.stdout
    assert json.loads(llamero("bundle", "--verify", str(made.path), "--json").stdout)["identity"] == bundle.identity
    named = {entry.get("text") for entry in bundle.manifest["licences"]}
    assert {part.name for part in bundle.of("licence")} == named - {None}
    assert {"numpy.txt", "llguidance.txt", "Python.txt", "model/TERMS.txt"} <= named


def test_a_bundle_is_a_model_like_any_other(made: Any, llamero: Any, tale: str) -> None:
    answer = llamero("run", "-m", str(made.path), "Hello", "--temperature", "0", "--quiet")
    assert answer.stdout.strip() == tale


def test_the_same_input_gives_the_same_file(models: Path, tmp_path: Path, launcher: Path) -> None:  # noqa: ARG001
    one, two = (make_bundle(models / "chain.gguf", tmp_path / name, engine=EMPTY) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    module = find_packages()[0].files
    source = next(path for name, path in module if name.endswith("__init__.py"))
    assert bytecode(source, "name.py") == bytecode(source, "name.py")
    assert str(source.parent).encode() not in bytecode(source, "name.py")


def test_a_folder_of_hugging_face_weights(
    models: Path,
    tmp_path: Path,
    tale: str,
    llamero: Any,
    launcher: Path,  # noqa: ARG001
) -> None:
    """Its bundle holds the same weights as GGUF."""
    source = GGUF.open(models / "chatty.gguf")
    config = config_of(source)
    tokenizer = find_tokenizer(source, None, config.vocab)
    folder = tmp_path / "weights"
    write_hf(folder, config_to_hf(config), list(export(source, config, "hf")))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer.to_json()))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer.to_config()))
    (folder / "LICENSE").write_text("Hum.\n")
    path = make_bundle(folder, tmp_path / "other", engine=EMPTY)
    bundle = Bundle.open(path)
    bundle.verify()
    assert weights_hash(bundle.model()) == weights_hash(source)
    assert any(part.name == "model/LICENSE" for part in bundle.of("licence"))
    answer = llamero("run", "-m", str(path), "Hello", "--temperature", "0", "--quiet", "--chat")
    assert answer.stdout.strip() == tale
    assert [part.name for part in bundle.of("model")] == ["weights.gguf"]


def test_mistakes_are_refused_before_any_work(models: Path, tmp_path: Path, llamero: Any, launcher: Path) -> None:  # noqa: ARG001
    out = str(tmp_path / "out")
    cases = {
        ("nothing.gguf", "-o", out): "there is no model 'nothing.gguf'",
        ("chain.gguf",): "-o NAME",
        ("chain.gguf", "-o", str(tmp_path)): "is a folder",
        ("chain.gguf", "-o", out, "--context", "100000"): "context must be from 2 to the model's own, 256",
        ("chain.gguf", "-o", out, "--chat-template", "lama-3"): "lama-3",
        ("chain.gguf", "-o", out, "--licence", "none.txt"): "no text none.txt",
        ("chain.gguf", "-o", "chain.gguf"): "is the model itself",
        ("chain.gguf", "--verify", out): "MODEL does not go with --verify",
        ("chain.gguf", "-o", out, "--json"): "--json does not go with making a bundle",
        ("--remove-engines", "--context", "9"): "--context does not go with --remove-engines",
    }
    for words, told in cases.items():
        answer = llamero("bundle", *words)
        assert answer.returncode == 1, words
        assert told in answer.stderr
    assert not list(tmp_path.iterdir())
    unbundled = llamero("bundle", "--verify", str(models / "chain.gguf"))
    assert "no bundle" in unbundled.stderr


def test_no_text_hides_another(models: Path, tmp_path: Path, launcher: Path) -> None:  # noqa: ARG001
    texts = [tmp_path / folder / "LICENSE" for folder in ("one", "two")]
    for text in texts:
        text.parent.mkdir()
        text.write_text(text.parent.name)
    with pytest.raises(SettingError, match="two texts to put in are called LICENSE"):
        make_bundle(models / "chain.gguf", tmp_path / "bundle", engine=EMPTY, licences=texts)
    assert not (tmp_path / "bundle").exists()
    twice = make_bundle(models / "chain.gguf", tmp_path / "bundle", engine=EMPTY, licences=texts[:1] * 2)
    assert [part.name for part in Bundle.open(twice).of("licence")][-1] == "model/LICENSE"


def test_where_a_model_comes_from_stays_with_it(models: Path, tmp_path: Path, llamero: Any, launcher: Path) -> None:  # noqa: ARG001
    shutil.copy(models / "chain.gguf", tmp_path / "chain.gguf")
    lineage.record(tmp_path / "chain.gguf", kind="model", licences=("Hum softly",))
    known = lineage.read(tmp_path / "chain.gguf")
    assert known is not None
    path = make_bundle(tmp_path / "chain.gguf", tmp_path / "bundle", engine=EMPTY)
    assert identity(known.record) in llamero("bundle", "--verify", str(path)).stdout
    llamero("bundle", "--extract", str(path), "-o", str(tmp_path / "out"))
    told = lineage.read(tmp_path / "out" / "chain.gguf")
    assert told == known


def test_a_file_without_a_tokenizer_is_refused_and_helped(models: Path, tmp_path: Path, llamero: Any) -> None:
    source = GGUF.open(models / "chain.gguf")
    bare = {key: value for key, value in source.typed_metadata().items() if not key.startswith("tokenizer.")}
    write_gguf(tmp_path / "bare.gguf", bare, [source.read(name) for name in source.tensors])
    answer = llamero("bundle", str(tmp_path / "bare.gguf"), "-o", str(tmp_path / "out"))
    assert answer.returncode == 1
    assert "tokenizer" in answer.stderr


def test_every_dependency_is_in_the_engine_or_left_out_on_purpose() -> None:
    project = Path(__file__).parents[3] / "pyproject.toml"
    wanted = tomllib.loads(project.read_text())["project"]["dependencies"]
    names = {re.split(r"[><=]", line)[0] for line in wanted}
    assert names == {*packages.ROOTS, "huggingface_hub"}


def test_the_engine_holds_what_it_needs_and_no_more() -> None:
    names = {file.path for file in collect().files}
    assert {"bin/python3", "lib/loader", "start.py", "packages/llamero/interfaces/page/index.html"} <= names
    assert any(name.endswith("/encodings/idna.pyc") for name in names)
    unwanted = ("/torch/", "torch_ops", "pip/", "/tests/", "transformers", "training/", ".gguf", "hub/", "__pycache__")
    assert not [name for name in names if any(word in name for word in unwanted)]


def test_programs_lose_what_only_debuggers_read() -> None:
    raw = python().read_bytes()
    small = trimmed(raw)
    assert is_elf(small)
    assert len(small) < len(raw)
    assert loader_of(small) == loader_of(raw)
    assert trimmed(small) == small
    assert str(python().parents[1]).encode() not in small or b"RUNPATH" not in small
    assert os.access(python(), os.X_OK)


def test_a_split_model_stays_split(models: Path, tmp_path: Path, launcher: Path) -> None:  # noqa: ARG001
    source = GGUF.open(models / "chain.gguf")
    tensors = [source.read(name) for name in source.tensors]
    parts = write_gguf(tmp_path / "many.gguf", source.typed_metadata(), tensors, max_tensors=4)
    assert len(parts) > 2
    path = make_bundle(parts[1], tmp_path / "bundle", engine=EMPTY)
    bundle = Bundle.open(path)
    assert [part.name for part in bundle.of("model")] == [part.name for part in parts]
    assert [b"".join(bundle.read(part)) for part in bundle.of("model")] == [part.read_bytes() for part in parts]
    assert weights_hash(open_model_file(path)) == weights_hash(source)
