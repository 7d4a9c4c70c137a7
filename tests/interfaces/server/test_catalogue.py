"""Names of models: what the operator says becomes names, and a request's name is looked up, never opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llamero.errors import ModelNotFound, SettingError
from llamero.interfaces.server.catalogue import Catalogue, Entry, name_of, parse_models


def test_names_of_paths_aliases_and_the_model_inside(models: Path) -> None:
    chain = str(models / "chain.gguf")
    entries = parse_models([chain, f"small={chain}", None])
    assert [entry.name for entry in entries] == ["chain", "small", "llama-stories"]
    assert entries[0].path == entries[1].path == models / "chain.gguf"
    assert name_of(Path("x/llama-00001-of-00003.gguf")) == "llama"
    assert name_of(Path("x/Llama-3.2-1B")) == "Llama-3.2-1B"


def test_a_pulled_name_is_its_own_name(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--owner--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "tiny.Q4_0.gguf").symlink_to(models / "chain.gguf")
    (tmp_path / "models--owner--tiny" / "refs").mkdir()
    (tmp_path / "models--owner--tiny" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (entry,) = parse_models(["owner/tiny:Q4_0"])
    assert entry.name == "owner/tiny:Q4_0"
    assert Catalogue([entry]).find("owner/tiny:Q4_0")[1] is None


def test_mistakes_of_the_operator(models: Path) -> None:
    chain = str(models / "chain.gguf")
    for specs, words in [([chain, chain], "two models"), ([f"a b={chain}"], "cannot name a model")]:
        with pytest.raises(SettingError, match=words):
            Catalogue(parse_models(specs))
    with pytest.raises(ModelNotFound, match="did you mean 'chain"):
        parse_models([str(models / "chian.gguf")])
    with pytest.raises(ModelNotFound, match="no folder"):
        Catalogue([], [models / "none"])
    for adapters, words in [(["x"], "no adapter"), (["other:x=y"], "did you mean|choose from"), (["x=y"], "say which")]:
        with pytest.raises(SettingError, match=words):
            parse_models([f"a={chain}", f"b={chain}"], adapters)


@pytest.mark.parametrize(
    "name",
    [
        "../chain",
        "/etc/passwd",
        "chain.gguf",
        "./chain",
        "chain\x00",
        "chain:../../x",
        "chain:/etc/passwd",
        "file:///etc/passwd",
        "x" * 100000,
        "CHAIN",
        ":",
        "chain:",
    ],
)
def test_a_request_names_and_never_points(models: Path, name: str) -> None:
    catalogue = Catalogue([Entry(name="one", path=models / "chain.gguf")], [models])
    with pytest.raises(ModelNotFound) as error:
        catalogue.find(name)
    assert str(models) not in str(error.value)
    assert len(str(error.value)) < 1000


def test_files_in_a_folder_come_and_go(models: Path, tmp_path: Path) -> None:
    catalogue = Catalogue([], [tmp_path])
    with pytest.raises(ModelNotFound, match="empty"):
        catalogue.find("")
    (tmp_path / "new.gguf").symlink_to(models / "chain.gguf")
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "many-00002-of-00002.gguf").write_text("")
    (tmp_path / "folder").mkdir()
    assert catalogue.names() == ["new"]
    assert catalogue.find("")[0].name == "new"
    (tmp_path / "new.gguf").unlink()
    assert catalogue.names() == []
    shutil.rmtree(tmp_path)
    assert catalogue.names() == []
