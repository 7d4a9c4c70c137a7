"""Tests of training/export.py: the file is read back by us and by the gguf package, and computes the same."""

import dataclasses

import numpy as np
import pytest
from gguf import GGUFReader

from llamero.errors import FormatError, SettingError
from llamero.formats.blocks import F32, I32, Q8_0
from llamero.formats.gguf import GGUF
from llamero.model.config import RopeScaling
from llamero.model.llama import forward
from llamero.model.weights import config_of, load
from llamero.ops.numpy_ops import NumpyOps
from llamero.ops.protocol import Span
from llamero.ops.torch_ops import TorchOps
from llamero.training.export import export
from llamero.training.parameters import arrays, fresh, weights


def logits_of(path, ids):
    ops = NumpyOps()
    return forward(ops, load(GGUF.open(path), ops), None, ids, [Span(0, len(ids))])


def test_the_file_computes_what_was_trained(config, tmp_path):
    parameters = fresh(config, 0)
    path = export(tmp_path / "model.gguf", config, arrays(parameters), {"general.name": "Tiny"})
    ids = [1, 5, 96, 0, 7]
    ours = TorchOps()
    trained = ours.numpy(forward(ours, weights(config, parameters), None, ids, [Span(0, 5)]))
    np.testing.assert_allclose(logits_of(path, ids), trained, rtol=1e-4, atol=1e-6)
    reader = GGUF.open(path)
    assert config_of(reader) == config
    assert reader.metadata["general.name"] == "Tiny"
    assert reader.metadata["general.file_type"] == 0


def test_matrices_are_quantised_and_norms_are_not(config, tmp_path):
    wide = dataclasses.replace(config, dim=64, head_dim=32, ffn_dim=96, rope_scaling=RopeScaling("llama3", 8.0))
    parameters = fresh(wide, 0)
    path = export(tmp_path / "model.gguf", wide, arrays(parameters), {}, Q8_0)
    stored = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(path).tensors}
    assert stored["blk.1.attn_k.weight"] == stored["token_embd.weight"] == "Q8_0"
    assert stored["blk.1.attn_norm.weight"] == stored["output_norm.weight"] == stored["rope_freqs.weight"] == "F32"
    plain = export(tmp_path / "plain.gguf", wide, arrays(parameters), {}, F32)
    one, other = logits_of(path, [3, 4, 5]), logits_of(plain, [3, 4, 5])
    assert 0 < np.linalg.norm(one - other) < 0.02 * np.linalg.norm(other)
    assert GGUF.open(path).metadata["general.file_type"] == 7


def test_what_cannot_be_stored_is_refused_before_anything_is_written(config, tmp_path):
    with pytest.raises(FormatError, match="Q8_0"):  # rows of 48 and 97 values
        export(tmp_path / "model.gguf", config, arrays(fresh(config, 0)), {}, Q8_0)
    with pytest.raises(SettingError, match="I32"):
        export(tmp_path / "model.gguf", config, arrays(fresh(config, 0)), {}, I32)
    assert list(tmp_path.iterdir()) == []
