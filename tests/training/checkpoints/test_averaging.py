"""Tests of training/checkpoints/averaging.py, `llamero average`, and the mean at the end of a run."""

import dataclasses
import shutil

import numpy as np
import pytest

from llamero.errors import FormatError, ModelNotFound, SettingError, WeightsError
from llamero.formats.gguf import GGUF
from llamero.formats.lineage import lineage
from llamero.interfaces.cli.main import main
from llamero.ops.torch_ops import TorchOps
from llamero.training.checkpoints.averaging import average, last_checkpoints
from llamero.training.checkpoints.checkpoint import Checkpoint
from llamero.training.checkpoints.saver import Keep
from llamero.training.data.batches import Batches
from llamero.training.loop import Run, Settings
from llamero.training.parameters import fresh, weights
from llamero.training.pretrain import NextToken
from llamero.training.schedule import Cosine


def saved(config, tokens, folder):
    parameters = fresh(config, 0)
    settings = Settings(Cosine(3e-3, 6, 1), save_every=2, keep=Keep(3))
    objective = NextToken(TorchOps(), weights(config, parameters))
    Run(parameters, objective, Batches(tokens, context=16, sequences=4), settings, folder).train()
    return last_checkpoints(folder / "checkpoints", 3)


def test_the_mean_of_checkpoints(config, tokens, tmp_path):
    found = saved(config, tokens, tmp_path)
    assert [path.name for path in found] == ["step-00000002", "step-00000004", "step-00000006"]
    each = [Checkpoint.open(path).weights() for path in found]
    mean = average(found)
    assert mean.keys() == each[0].keys()
    for name, value in mean.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, np.mean([one[name].astype(np.float64) for one in each], axis=0), rtol=1e-7)
    backwards = average(found[::-1])
    assert all(np.array_equal(value, backwards[name]) for name, value in mean.items())
    one = average(found[:1])
    assert all(np.array_equal(value, each[0][name]) for name, value in one.items())


def test_what_cannot_be_averaged_is_refused(config, tokens, tmp_path):
    found = saved(config, tokens, tmp_path / "one")
    other = saved(dataclasses.replace(config, layers=1), tokens, tmp_path / "other")
    with pytest.raises(WeightsError, match="another model"):
        average([found[0], other[0]])
    with pytest.raises(ModelNotFound, match="holds 3 checkpoints, 4 are asked for"):
        last_checkpoints(tmp_path / "one" / "checkpoints", 4)
    with pytest.raises(SettingError, match="nothing to average"):
        average([])
    file = next(found[1].glob("*.safetensors"))
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(FormatError, match="checksum"):
        average(found)


TOY = (
    "--dim 32 --layers 1 --heads 2 --kv-heads 1 --head-dim 16 --ffn-dim 32 --vocab 280 --context 32 --batch 64 "
    "--steps 6 --save-every 2 --dtype f32 --export F32 --threads 1"
)


def test_a_run_may_end_with_the_mean_and_the_command_gives_the_same(tmp_path, capsys):
    text = tmp_path / "stories.txt"
    text.write_text("".join(f"A llama walks up hill {i} and sings.\n<|endoftext|>\n" for i in range(300)))
    run = tmp_path / "run"
    assert main(["train", "tiny", "--text", str(text), "--out", str(run), "--average", "3", *TOY.split()]) == 0
    assert main(["average", str(run), "--out", str(tmp_path / "all.gguf"), "--export", "F32"]) == 0
    assert "step-00000002, step-00000004, step-00000006" in capsys.readouterr().out
    chosen = [str(run / "checkpoints" / f"step-0000000{step}") for step in (4, 6)]
    assert main(["average", *chosen, "--out", str(tmp_path / "two.gguf"), "--export", "F32"]) == 0

    def values(path):
        file = GGUF.open(path)
        return np.concatenate([file.read(name).decode().ravel() for name in sorted(file.tensors)])

    np.testing.assert_array_equal(values(run / "model.gguf"), values(tmp_path / "all.gguf"))
    assert not np.array_equal(values(tmp_path / "two.gguf"), values(tmp_path / "all.gguf"))
    assert main(["run", "-m", str(tmp_path / "two.gguf"), "A", "-n", "2", "--quiet"]) == 0
    parents = lineage.read(tmp_path / "two.gguf").record.parents
    assert [parent.name for parent in parents] == ["step-00000004", "step-00000006", "tokenizer.gguf"]
    assert main(["average", str(run), "--last", "9", "--out", "x.gguf"]) == 1
    assert "--keep" in capsys.readouterr().err
    capsys.readouterr()
    shutil.copytree(run, tmp_path / "other")
    for words, said in (
        ([run, "--last", "0"], "--last must be at least 1, got 0"),
        ([run / "checkpoints"], "checkpoints is no checkpoint: it holds no manifest.json; give a run's folder"),
        ([run / "model.gguf"], "model.gguf is no folder; give a run's folder"),
        ([run / "gone"], "gone is not there; give a run's folder"),
        ([chosen[0], tmp_path / "other/checkpoints/step-00000006"], "are of different runs"),
    ):
        assert main(["average", *map(str, words), "--out", str(tmp_path / "x.gguf")]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "x.gguf").exists()
