"""What native_ops promises beside the arithmetic: refusals instead of crashes, lifetimes, threads, processes."""

from __future__ import annotations

import ast
import gc
import mmap
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import llamero
from llamero import _native
from llamero.errors import DeviceError, SettingError, WeightsError
from llamero.formats.blocks import TYPES
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.ops.native_ops import NativeOps, levels
from llamero.ops.protocol import Span, StoreShape

F32, Q8_0 = TYPES["F32"], TYPES["Q8_0"]
STUB = Path(llamero.__file__).with_name("_native.pyi")


def tensor(values: NDArray[np.float32], name: str = "F32") -> Tensor:
    return Tensor(TensorInfo("w", TYPES[name], values.shape), TYPES[name].encode(values))


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


@pytest.fixture(scope="module")
def ops() -> NativeOps:
    return NativeOps(2)


def refused(ops: NativeOps) -> dict[str, Callable[[], object]]:
    """Calls whose shapes would reach beyond an array, if they were let in."""
    x, y = ops.array(ones(3, 64)), ops.array(ones(2, 64))
    matrix, vector = ops.weight(tensor(ones(5, 32))), ops.weight(tensor(ones(32)))
    store = ops.store(StoreShape(2, 2, 16, 4, 8, "f16"))
    inv = np.ones(8)
    step, fits = ops.begin(store, [Span(0, 3, (0,))], inv), ops.array(ones(3, 32))
    return {
        "sum of different shapes": lambda: ops.add(x, y),
        "gate of different shapes": lambda: ops.swiglu(x, y),
        "norm of another width": lambda: ops.rms_norm(x, vector, 1e-5),
        "norm by a matrix": lambda: ops.rms_norm(fits, matrix, 1e-5),
        "product of another width": lambda: ops.matmul(x, matrix),
        "product with a vector": lambda: ops.matmul(fits, vector),
        "second product of another width": lambda: ops.matmul(fits, matrix, ops.weight(tensor(ones(5, 64)))),
        "fourth product with a vector": lambda: ops.matmul(fits, matrix, matrix, matrix, vector),
        "token beyond the table": lambda: ops.embed(matrix, [0, 5]),
        "negative token": lambda: ops.embed(matrix, [-1]),
        "row beyond the end": lambda: ops.take(x, [3]),
        "rotation of other tokens": lambda: ops.rope(y, step),
        "rotation of part of a head": lambda: ops.rope(ops.array(ones(3, 24)), step),
        "queries of other tokens": lambda: ops.attention(y, fits, fits, step, 0),
        "keys unlike values": lambda: ops.attention(x, fits, x, step, 0),
        "keys for other heads": lambda: ops.attention(x, x, x, step, 0),
        "fewer queries than keys": lambda: ops.attention(ops.array(ones(3, 16)), fits, fits, step, 0),
        "layer beyond the store": lambda: ops.attention(x, fits, fits, step, 2),
        "negative layer": lambda: ops.attention(x, fits, fits, step, -1),
        "page beyond the store": lambda: ops.begin(store, [Span(0, 3, (4,))], inv),
        "copy beyond the store": lambda: ops.copy(store, 0, 4, 3),
        "copy beyond the page": lambda: ops.copy(store, 0, 1, 9),
        "negative page": lambda: ops.begin(store, [Span(0, 3, (-1,))], inv),
        "too few pages": lambda: ops.begin(store, [Span(6, 3, (0,))], inv),
        "empty span": lambda: ops.begin(store, [Span(0, 0, (0,))], inv),
        "negative start": lambda: ops.begin(store, [Span(-1, 2, (0,))], inv),
        "endless span": lambda: ops.begin(None, [Span(0, 2**50)], inv),
        "heads of another width": lambda: ops.begin(store, [Span(0, 3, (0,))], np.ones(4)),
        "no rotations": lambda: ops.begin(None, [Span(0, 3)], np.ones(0)),
        "matrix in too few bytes": lambda: _native.Weight(Q8_0.id, 2, 32, bytes(67)),
        "matrix of part of a block": lambda: _native.Weight(Q8_0.id, 2, 31, bytes(68)),
        "matrix of an unknown type": lambda: _native.Weight(99, 2, 32, bytes(68)),
        "matrix beyond all memory": lambda: _native.Weight(F32.id, 2**40, 2**40, bytes(68)),
        "matrix without rows": lambda: _native.Weight(F32.id, 0, 32, b""),
    }


@pytest.mark.parametrize("what", refused(NativeOps(1)))
def test_wrong_shapes_are_refused(what: str, ops: NativeOps) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        refused(ops)[what]()


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        (StoreShape(2, 2, 20, 4, 8, "q8_0"), "multiple of 32"),
        (StoreShape(2, 2, 16, 4, 8, "f15"), "did you mean 'f16'"),  # type: ignore[arg-type]
        (StoreShape(2, 0, 16, 4, 8, "f16"), "no memory"),
        (StoreShape(2**30, 2**30, 64, 2**30, 64, "f16"), "no memory"),
    ],
)
def test_impossible_stores_are_refused(shape: StoreShape, what: str, ops: NativeOps) -> None:
    with pytest.raises(SettingError, match=what):
        ops.store(shape)


def test_a_store_takes_no_memory_before_it_is_written(ops: NativeOps) -> None:
    store = ops.store(StoreShape(32, 8, 128, 2048, 64, "f16"))
    assert store.nbytes > 16 * 2**30


def test_impossible_machines_are_refused() -> None:
    with pytest.raises(SettingError, match="between 1 and 1024"):
        NativeOps(0)
    with pytest.raises(DeviceError, match="did you mean"):
        NativeOps(1, "basline")


def test_odd_weights(ops: NativeOps) -> None:
    """Three dimensions and missing bytes are refused; doubles and integers become floats."""
    with pytest.raises(WeightsError, match="neither a vector nor a matrix"):
        ops.weight(tensor(ones(2, 2, 2)))
    with pytest.raises(WeightsError, match="10 bytes"):
        ops.weight(Tensor(TensorInfo("w", F32, (2, 2)), np.zeros(10, np.uint8)))
    for name in ("F64", "I8", "I64"):
        (y,) = ops.matmul(ops.array(ones(1, 4)), ops.weight(tensor(3 * ones(2, 4), name)))
        assert y.numpy().tolist() == [[12, 12]]


def test_weights_stay_mapped(ops: NativeOps, tmp_path: Path) -> None:
    """A weight is a view of the file, which cannot be unmapped under it."""
    file = tmp_path / "weights"
    file.write_bytes(ones(4, 32).tobytes())
    with file.open("r+b") as handle:
        mapped = mmap.mmap(handle.fileno(), 0)
    weight = _native.Weight(F32.id, 4, 32, memoryview(mapped))
    mapped[:128] = (2 * ones(32)).tobytes()
    (y,) = ops.matmul(ops.array(ones(1, 32)), weight)
    assert y.numpy().tolist() == [[64, 32, 32, 32]]
    with pytest.raises(BufferError):
        mapped.close()
    del weight
    gc.collect()
    mapped.close()


def test_views_keep_rows_alive() -> None:
    ops = NativeOps(1)
    view = ops.numpy(ops.array(7 * ones(3, 5)))
    for _ in range(10):
        ops.array(ones(3, 5))
    del ops
    gc.collect()
    assert (view == 7).all()


def test_empty_arrays(ops: NativeOps) -> None:
    """No rows in, no rows out."""
    x = ops.take(ops.array(ones(3, 32)), [])
    (y,) = ops.matmul(x, ops.weight(tensor(ones(5, 32))))
    assert x.shape == (0, 32)
    assert ops.add(x, x).shape == (0, 32)
    assert y.shape == (0, 5)


def test_not_a_number_goes_through(ops: NativeOps) -> None:
    """What is not finite breaks its own row and no other, whatever form the activations take."""
    x = ones(3, 256)
    x[1, 17], x[2, 3] = np.nan, np.inf
    for name in ("F32", "F16", "Q8_0", "Q4_K"):
        for rows in (x, np.concatenate([x] * 8)):
            (y,) = ops.matmul(ops.array(rows), ops.weight(tensor(ones(6, 256), name)))
            assert np.isfinite(y.numpy()[::3]).all(), name


@pytest.mark.parametrize("level", levels())
def test_one_machine_serves_many_threads(level: str) -> None:
    """Calls from several Python threads wait for one another and mix nothing up."""
    ops, rng = NativeOps(2, level), np.random.default_rng(1)
    weight = ops.weight(tensor(rng.standard_normal((900, 512), np.float32), "Q8_0"))
    inputs = [ops.array(rng.standard_normal((n, 512), np.float32)) for n in (1, 2, 40, 3)]
    want = [ops.matmul(x, weight)[0].numpy().copy() for x in inputs]

    def work(i: int) -> bool:
        return all(np.array_equal(ops.matmul(inputs[i], weight)[0].numpy(), want[i]) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


FORK = """
import os, sys
import numpy as np
from llamero.formats.blocks import F32
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.ops.native_ops import NativeOps
ops = NativeOps(3)
w = np.ones((2000, 512), np.float32)
weight, x = ops.weight(Tensor(TensorInfo("w", F32, w.shape), F32.encode(w))), ops.array(w[:4])
assert (ops.matmul(x, weight)[0].numpy() == 512).all()
child = os.fork()
if child == 0:
    assert (ops.matmul(x, weight)[0].numpy() == 512).all()
    del ops
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert (ops.matmul(x, weight)[0].numpy() == 512).all()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks with threads only where it is safe")
def test_a_forked_child_works_alone() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60)


def test_the_stub_names_what_the_extension_has() -> None:
    stub = ast.parse(STUB.read_text())
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert public(_native) == classes.keys() | functions
    for name, node in classes.items():
        methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef) and item.name[0] != "_"}
        assert public(getattr(_native, name)) == methods, name


def public(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}
