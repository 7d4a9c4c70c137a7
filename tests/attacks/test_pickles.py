"""Attacks on torch checkpoints: pickles that try to run code, and archives that lie about their entries."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamero.errors import FormatError, LlameroError, UnsupportedError
from llamero.formats.blocks import F32
from llamero.formats.pth import Checkpoint, write_pth
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.formats.unpickle import unpickle

PROTO = b"\x80\x02"
SYSTEM = f"c{os.system.__module__}\nsystem\n".encode()


def archive(pickled: bytes, storage: bytes = bytes(64), **entries: bytes) -> bytes:
    """A checkpoint of any pickle and one storage "0"."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("m/data.pkl", pickled)
        file.writestr("m/data/0", storage)
        for name, content in entries.items():
            file.writestr(name, content)
    return out.getvalue()


def tensor(
    storage: bytes = b"ctorch\nFloatStorage\n",
    count: int = 16,
    offset: int = 0,
    shape: Any = (4, 4),
    strides: Any = (4, 1),
) -> bytes:
    """A pickle of {"t": tensor}; the numbers may lie."""
    numbers = [pickle.dumps(value, 2)[2:-1] for value in (count, offset, shape, strides)]
    reference = b"(X\7\0\0\0storage" + storage + b"X\1\0\0\0" + b"0" + b"X\3\0\0\0cpu" + numbers[0] + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + b"".join(numbers[1:]) + b"\x89}tR"
    return PROTO + b"}X\1\0\0\0t" + call + b"s."


def test_the_pieces_make_a_good_file() -> None:
    assert Checkpoint.from_buffer(archive(tensor())).tensors["t"].shape == (4, 4)


class Runs:
    """Pickles into a call of `function`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"w": x}, lambda x: [(x,)]])
def test_pickled_calls_do_not_run(tmp_path: Path, wrap: Any, protocol: int, refused: Any) -> None:
    victim = tmp_path / "ran"
    for payload in (
        Runs(os.system, f"touch {victim}"),
        Runs(eval, f"open({str(victim)!r}, 'w')"),
        Runs(exec, f"open({str(victim)!r}, 'w')"),
        Runs(getattr, Runs(__import__, "os"), "system"),
        Runs(os.mkdir, str(victim)),
        Runs(Path, str(victim)),
        Runs(bytearray, 10**12),
    ):
        raw = archive(pickle.dumps(wrap(payload), protocol))
        assert isinstance(refused(lambda raw=raw: Checkpoint.from_buffer(raw, path="evil.pth")), FormatError)
    assert not victim.exists()


HAND_MADE = {
    "reduce": SYSTEM + b"(X\2\0\0\0idtR",
    "reduce of a reduce": b"ccollections\nOrderedDict\n)R(X\2\0\0\0idtR",
    "inst": b"(X\2\0\0\0idi" + SYSTEM[1:],
    "obj": b"(" + SYSTEM + b"X\2\0\0\0ido",
    "newobj": SYSTEM + b"(X\2\0\0\0idt\x81",
    "newobj_ex": SYSTEM + b"(X\2\0\0\0idt}\x92",
    "stack_global": b"\x8c\2os\x8c\6system\x93(X\2\0\0\0idtR",
    "stack_global of no strings": b"KaKb\x93.",
    "ext1": b"\x82\1",
    "ext4": b"\x84\1\0\0\0",
    "a name with dots": b"ccollections\nOrderedDict.fromkeys\n",
    "a module's import": b"ctorch._utils\n_import_dotted_name\n",
    "torch.load": b"ctorch\nload\n",
    "a numpy array": b"cnumpy.core.multiarray\n_reconstruct\n",
    "a call of a storage": b"ctorch\nFloatStorage\n)R",
    "a call of a string": b"X\2\0\0\0id)R",
    "a call of a long tuple": b"(" + b"K\1" * 1000 + b"t)R",
    "a dict with content": b"ccollections\nOrderedDict\n(]tR",
    "state of a dict": b"}c__builtin__\neval\nb",
    "state of a storage": b"ctorch\nFloatStorage\n}b",
    "state that is a tuple": b"}}}\x86b",
    "a rebuilt tensor of nothing": b"ctorch._utils\n_rebuild_tensor_v2\n)R",
    "a parameter of a number": b"ctorch._utils\n_rebuild_parameter\n(K\1K\1K\1tR",
    "a parameter of nothing": b"ctorch._utils\n_rebuild_parameter\n)R",
    "a size of a number": b"ctorch\nSize\nK\1\x85R",
    "a persistent id of a number": b"K\1Q",
    "a persistent id of strings": b"(X\7\0\0\0storageX\1\0\0\0aX\1\0\0\0aX\1\0\0\0aK\1tQ",
    "a text persistent id": b"Pname\n",
    "append to a dict": b"}K\1a",
    "append to nothing": b"K\1a",
    "set in a list": b"]K\1K\2s",
    "an odd dict": b"}(K\1u",
    "a list as a key": b"}]K\1s",
    "a tuple as a key": b"}K\1\x85K\1s",
    "no mark": b"K\1t",
    "an empty stack": b"R",
    "nothing to stop with": b"",
    "a memo that was never set": b"h\7",
    "a huge memo that was never set": b"j\xff\xff\xff\xff",
    "text longer than the pickle": b"X\xff\xff\xff\xffa",
    "text that is not UTF-8": b"X\1\0\0\0\xff",
    "bytes": b"C\1a",
    "huge bytes": b"\x8e" + b"\xff" * 8,
    "a line without end": b"ctorch" + b"x" * 5000,
    "a text number": b"I1\n",
    "a text long": b"L" + b"9" * 100_000 + b"L\n",
    "a huge long": b"\x8b\xff\xff\xff\x7f",
    "an unknown instruction": b"\xfe",
    "duplication": b"]0",
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_pickles_are_refused(name: str, refused: Any) -> None:
    error = refused(unpickle, PROTO + HAND_MADE[name] + b".")
    assert isinstance(error, FormatError)
    raw = archive(PROTO + HAND_MADE[name] + b".")
    assert "evil.pth" in str(refused(lambda: Checkpoint.from_buffer(raw, path="evil.pth")))


def test_a_refused_name_is_said(refused: Any) -> None:
    error = refused(unpickle, PROTO + b"cos\nsystem\n.")
    assert isinstance(error, UnsupportedError)
    assert "os.system" in str(error)


def test_huge_memo_keys_cost_nothing() -> None:
    assert unpickle(PROTO + b"K\1r\xff\xff\xff\xff0".replace(b"0", b"j\xff\xff\xff\xff\x86.")) == (1, 1)


def test_bombs(refused: Any) -> None:
    refused(unpickle, PROTO + b"N" * 15_000_000)
    refused(unpickle, PROTO + b"N" * 17_000_000)
    refused(unpickle, PROTO + b"K\1" * 5_000_000 + b".")
    deep = PROTO + b"]" * 190_000 + b"a" * 189_999 + b"."
    refused(lambda: Checkpoint.from_buffer(archive(deep)))
    refused(lambda: Checkpoint.from_buffer(archive(PROTO + b"N" + b"\x85" * 300_000 + b".")))
    # Thirty nested pairs of the same pair are a billion leaves to whoever walks them; nobody must.
    laughs = PROTO + b"}X\1\0\0\0xK\1" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(200)) + b"s."
    refused(lambda: Checkpoint.from_buffer(archive(laughs)))
    refused(lambda: Checkpoint.from_buffer(archive(PROTO + b"}" + laughs[3:-2] + b"K\1s.")))


@pytest.mark.parametrize(
    ("pickled", "text"),
    [
        (tensor(count=17), "should hold 17 numbers and has 64 bytes"),
        (tensor(count=2**62), "should hold"),
        (tensor(count=-1), "does not describe a storage"),
        (tensor(count=True), "does not describe a storage"),
        (tensor(offset=1), "reaches outside"),
        (tensor(offset=-1), "whole numbers"),
        (tensor(offset=2**63), "whole numbers"),
        (tensor(shape=(4, -4)), "whole numbers"),
        (tensor(shape=(4, 4.0)), "whole numbers"),
        (tensor(shape=[4, 4]), "whole numbers"),
        (tensor(shape=(4,)), "1 sizes and 2 strides"),
        (tensor(shape=(1,) * 9, strides=(1,) * 9), "9 sizes"),
        (tensor(shape=(2**40, 4), strides=(0, 1)), "reaches outside"),
        (tensor(shape=(2**62, 2**62), strides=(0, 0)), "reaches outside"),
        (tensor(strides=(2**62, 2**62)), "reaches outside"),
        (tensor(strides=(5, 1)), "reaches outside"),
        (tensor(storage=b"ctorch\nByteStorage\n"), "ByteStorage"),
        (tensor(storage=b"ctorch\nNoSuchStorage\n"), "NoSuchStorage"),
        (tensor(storage=b"ctorch.storage\nUntypedStorage\n"), "UntypedStorage"),
        (tensor().replace(b"X\1\0\0\0" + b"0", b"X\1\0\0\0" + b"7"), "'m/data/7' is not in the archive"),
        (tensor().replace(b"X\1\0\0\0" + b"0", b"X\5\0\0\0" + b"../0a"), "is not in the archive"),
    ],
)
def test_a_tensor_that_lies_is_refused(pickled: bytes, text: str, refused: Any) -> None:
    assert text in str(refused(lambda: Checkpoint.from_buffer(archive(pickled))))


def patched(raw: bytes, at: int, kind: str, value: int) -> bytes:
    return raw[:at] + struct.pack(kind, value) + raw[at + struct.calcsize(kind) :]


def test_an_archive_that_lies_is_refused(refused: Any) -> None:
    raw = archive(tensor())
    end, directory = raw.rindex(b"PK\5\6"), raw.index(b"PK\1\2")
    for at, kind, value, text in (
        (end + 10, "<H", 9, "before its 9 entries do|cannot be"),
        (end + 10, "<H", 0xFFFF, "64-bit directory"),
        (end + 12, "<I", 2**31, "cannot be"),
        (end + 16, "<I", 2**31, "cannot be"),
        (end + 16, "<I", 0xFFFFFFFF, "64-bit directory"),
        (directory, "<I", 0, "no directory entry"),
        (directory + 8, "<H", 1, "compressed or encrypted"),
        (directory + 10, "<H", 8, "compressed or encrypted"),
        (directory + 20, "<I", 5, "two sizes"),
        (directory + 28, "<H", 0xFFFF, "runs past the directory's end"),
        (directory + 42, "<I", 2**31, "is said to be at byte 2147483648"),
        (directory + 42, "<I", 5, "is not at byte 5"),
        (directory + 42, "<I", 0xFFFFFFFF, "lacks a 64-bit size or offset"),
        (28, "<H", 0xFFFF, "cut short"),
    ):
        evil = patched(raw, at, kind, value)
        with pytest.raises(FormatError, match=text):
            raise refused(lambda evil=evil: Checkpoint.from_buffer(evil))
    both = patched(patched(raw, directory + 20, "<I", 2**30), directory + 24, "<I", 2**30)
    assert "cut short" in str(refused(lambda: Checkpoint.from_buffer(both)))
    twice = archive(tensor()).replace(b"m/data/0", b"m/data.p").replace(b"m/data.pkl", b"m/data.pXX")
    refused(lambda: Checkpoint.from_buffer(twice))


def test_one_name_for_two_entries_is_refused(refused: Any) -> None:
    raw = archive(tensor(), **{"m/data/1": b"x"}).replace(b"m/data/1", b"m/data/0")
    assert "'m/data/0' is there twice" in str(refused(lambda: Checkpoint.from_buffer(raw)))


def test_many_entries_are_refused(refused: Any) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for number in range(66_000):
            file.writestr(str(number), b"")
    refused(lambda: Checkpoint.from_buffer(out.getvalue()))


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("pth") / "m.pth"
    write_pth(path, [Tensor(TensorInfo("t", F32, (4, 4)), F32.encode(np.ones((4, 4))))])
    with zipfile.ZipFile(path) as file:
        return file.read("m/data.pkl")


ALPHABET = b"\x80\x02.(NRtQsu}]aebcqhjrJKMX)\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95"


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1), st.integers(0, 2), st.binary(max_size=3) | st.sampled_from([bytes([b]) for b in ALPHABET])
        ),
        max_size=4,
    )
)
def test_mutated_pickles(pickled: bytes, edits: list[tuple[float, int, bytes]]) -> None:
    raw = pickled
    for where, drop, insert in edits:
        at = int(where * len(raw))
        raw = raw[:at] + insert + raw[at + drop :]
    with suppress(LlameroError):
        reader = Checkpoint.from_buffer(archive(raw))
        for name in reader.tensors:
            reader.read(name).decode()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(list(ALPHABET)), max_size=40))
def test_any_program(program: list[int]) -> None:
    with suppress(LlameroError):
        unpickle(bytes(program) + b".")
