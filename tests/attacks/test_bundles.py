"""Bundles that were cut, changed or made to do harm: the launcher and the reader refuse them with one clear line."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import zlib
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest

from llamero.errors import FormatError, UnsupportedError
from llamero.formats.bundle import HEAD_AT, Bundle, Head
from llamero.formats.bundle_write import bundle_file
from llamero.interfaces.bundle.show import described, extract


@pytest.fixture(scope="module")
def launcher() -> bytes:
    native = find_spec("llamero._native")
    assert native
    path = Path(native.origin or "").with_name("_launcher")
    if not path.is_file():
        pytest.skip("this installation was built without the launcher of bundles")
    return path.read_bytes()


def indexed(names: Iterable[bytes], sizes: Iterable[int]) -> bytes:
    return b"".join(struct.pack("<QBB", size, 0, len(name)) + name for name, size in zip(names, sizes, strict=True))


def craft(path: Path, launcher: bytes, index: bytes, stream: bytes, unpacked: int, model: bytes = b"GGUF") -> Head:
    with bundle_file(path, launcher) as writer:
        writer.add("engine", "engine", [index, stream])
        writer.add("model", "model.gguf", [model])
        return writer.finish({"model": {"name": "Crafted"}}, len(index), unpacked)


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@pytest.fixture
def good(tmp_path: Path, launcher: bytes) -> Path:
    """A bundle that is whole, of an engine that holds one text: it unpacks, and then there is nothing to start."""
    data = b"Here is a text. " * 100
    craft(tmp_path / "good", launcher, indexed([b"a/text"], [len(data)]), deflated(data), len(data))
    return tmp_path / "good"


def started(path: Path, cache: Path) -> str:
    """What the launcher says; it always fails with 1, and by no signal."""
    cache.mkdir(exist_ok=True)
    environment = {"XDG_CACHE_HOME": str(cache), "TMPDIR": "/nowhere"}
    answer = subprocess.run([path], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    return answer.stderr


def rewritten(path: Path, head: Head) -> None:
    """Put another head in, with the right hash of itself."""
    with path.open("r+b") as file:
        file.seek(HEAD_AT)
        file.write(head.to_bytes())


def head_of(path: Path) -> Head:
    return Bundle.open(path).head


def test_the_crafted_one_is_whole(good: Path, tmp_path: Path) -> None:
    Bundle.open(good).verify()
    assert "does not start from there" in started(good, tmp_path / "cache")
    name = head_of(good).engine_digest.hex()[:32]
    assert (tmp_path / "cache/llamero/engines" / name / "a/text").read_bytes() == b"Here is a text. " * 100


@pytest.mark.parametrize("left", [40_000, HEAD_AT, HEAD_AT + 100, HEAD_AT + 256, 131_072, 131_073, -1])
def test_cut_short(good: Path, tmp_path: Path, left: int) -> None:
    size = good.stat().st_size
    with good.open("r+b") as file:
        file.truncate(left if left > 0 else size - 1)
    assert "cut short" in started(good, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(FormatError, match=r"cut"):
        Bundle.open(good)


def test_something_at_the_end(good: Path, tmp_path: Path) -> None:
    with good.open("ab") as file:
        file.write(b"x")
    assert "added at its end" in started(good, tmp_path / "cache")
    with pytest.raises(FormatError, match="longer"):
        Bundle.open(good)


@pytest.mark.parametrize("at", [0, 5, 16, 20, 24, 32, 40, 47, 48, 56, 64, 72, 80, 88, 120, 152, 200, 224, 255])
def test_every_field_of_the_head_is_held_by_its_hash(good: Path, tmp_path: Path, at: int) -> None:
    raw = bytearray(good.read_bytes())
    raw[HEAD_AT + at] ^= 0x40
    good.write_bytes(raw)
    assert "damaged" in started(good, tmp_path / "cache")
    with pytest.raises(FormatError):
        Bundle.open(good)


def test_a_head_that_lies_with_the_right_hash(good: Path, tmp_path: Path) -> None:
    head, far = head_of(good), 1 << 63
    lies = [
        replace(head, engine_at=far),
        replace(head, engine_at=head.total - 1),
        replace(head, engine_at=0),
        replace(head, engine_at=head.engine_at + 1),
        replace(head, engine=far),
        replace(head, engine=2**64 - head.engine_at),
        replace(head, index=head.engine + 1),
        replace(head, unpacked=1 << 40),
        replace(head, manifest=far),
        replace(head, manifest=head.manifest - 1),
        replace(head, manifest_at=2**64 - 1),
        replace(head, index=head.index - 1),
        replace(head, unpacked=head.unpacked + 1),
        replace(head, unpacked=0),
    ]
    for lie in lies:
        rewritten(good, lie)
        assert "again" in started(good, tmp_path / "cache"), lie
    assert not list((tmp_path / "cache").iterdir())
    for lie in [*lies[:6], *lies[8:11]]:
        rewritten(good, lie)
        with pytest.raises(FormatError):
            Bundle.open(good).verify()


def test_what_a_bundle_says_of_itself_is_only_shown(tmp_path: Path, launcher: bytes) -> None:
    told = {"model": {"name": "\x1b[2Jevery byte is as it was made", "parameters": "many", "licence": [1, "\x9b"]}}
    told |= {
        "settings": {"a\r\x1b[1A": {"b": "\u202e"}},
        "licences": [{"name": 5, "licence": "\x07"}],
        "machine": "\x1bc",
    }
    path = tmp_path / "bundle"
    for manifest in (told, {"model": 3}, {"settings": []}, {"licences": {}}, {"licences": [3]}):
        with bundle_file(path, launcher) as writer:
            writer.add("engine", "engine", [b""])
            writer.add("model", "\x1b]0;model\x07.gguf", [b"GGUF"])
            writer.finish(manifest, 0, 0)
        if manifest is told:
            assert all(line.isprintable() for line in described(Bundle.open(path)))
            with pytest.raises(FormatError, match="no file's name"):
                extract(Bundle.open(path), tmp_path / "folder")
        else:
            with pytest.raises(FormatError, match="does not say what one should"):
                Bundle.open(path)


def test_two_parts_of_one_name(tmp_path: Path, launcher: bytes) -> None:
    with bundle_file(tmp_path / "bundle", launcher) as writer:
        writer.add("engine", "engine", [b""])
        for text in (b"GGUF", b"other"):
            writer.add("model", "model.gguf", [text])
        writer.finish({}, 0, 0)
    with pytest.raises(FormatError, match="one name"):
        Bundle.open(tmp_path / "bundle")


def test_another_version(good: Path, tmp_path: Path) -> None:
    raw = bytearray(head_of(good).to_bytes())
    raw[16] = 2
    raw[224:] = hashlib.sha256(raw[:224]).digest()
    with good.open("r+b") as file:
        file.seek(HEAD_AT)
        file.write(raw)
    assert "version" in started(good, tmp_path / "cache")
    with pytest.raises(UnsupportedError, match="version 2"):
        Bundle.open(good)


PATHS = [b"../out", b"/tmp/out", b"a/../../out", b"a//b", b"./a", b"a/.", b"..", b"a/", b"", b"a\0b"]


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_leads_out(tmp_path: Path, launcher: bytes, name: bytes) -> None:
    path = tmp_path / "bad"
    craft(path, launcher, indexed([name], [4]), deflated(b"evil"), 4)
    assert "list of its engine's files is damaged" in started(path, tmp_path / "cache")
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["bad", "cache"]


def test_an_index_that_is_cut_or_contradicts_itself(tmp_path: Path, launcher: bytes) -> None:
    sound = indexed([b"a", b"b"], [2, 2])
    for index, unpacked in ((sound[:-1], 4), (sound + b"\0", 4), (sound, 3), (indexed([b"a"], [2**64 - 1]), 4)):
        craft(tmp_path / "bad", launcher, index, deflated(b"evil"), unpacked)
        assert "damaged" in started(tmp_path / "bad", tmp_path / "cache")
    # twice the same file, or a file that is a folder too: refused when it is written, and nothing is left of it
    for names in ([b"a", b"a"], [b"a", b"a/b"]):
        craft(tmp_path / "bad", launcher, indexed(names, [2, 2]), deflated(b"evil"), 4)
        assert "cannot be written" in started(tmp_path / "bad", tmp_path / "cache")
        assert not list((tmp_path / "cache/llamero/engines").iterdir())


def test_streams_that_do_not_unpack(tmp_path: Path, launcher: bytes) -> None:
    data = bytes(range(256)) * 40 + b"some words, some words, " * 100
    sound = deflated(data)
    streams = [b"", sound[:-1], sound[: len(sound) // 2], sound + b"x", deflated(data[:-1]), deflated(data + b"x")]
    streams += [b"\xff" * 100, b"\x01\x05\x00\x00\x00" + data[:5]]
    for at in range(0, min(len(sound), 400), 7):  # damage in the description of the codes, and in what they say
        changed = bytearray(sound)
        changed[at] ^= 0x10
        try:
            if zlib.decompress(bytes(changed), -15) != data:
                raise zlib.error("another text")
        except zlib.error:
            streams.append(bytes(changed))
    told = []
    for stream in streams[:8] + streams[8::6]:
        craft(tmp_path / "bad", launcher, indexed([b"a"], [len(data)]), stream, len(data))
        told.append(started(tmp_path / "bad", tmp_path / "cache"))
    # a change that unpacks to another text of the same size is for the hash to find, which was made after it
    assert sum("does not unpack" in line for line in told) >= 8
    assert all("does not unpack" in line or "does not start" in line for line in told)


def test_every_kind_of_block_unpacks(tmp_path: Path, launcher: bytes) -> None:
    noise = hashlib.shake_256(b"seed").digest(200_000)
    texts = [
        b"",
        b"a",
        b"a" * 70_000,
        noise,
        b"words and words and other words. " * 4000 + noise[:70_000],
        bytes(range(256)) * 300,
    ]
    kinds = ((0, 0), (1, 0), (9, 0), (6, zlib.Z_FIXED), (6, zlib.Z_HUFFMAN_ONLY), (6, zlib.Z_RLE))
    for number, (text, (level, strategy)) in enumerate(product(texts, kinds)):
        packer = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
        first = packer.compress(text[:1000]) + packer.flush(zlib.Z_FULL_FLUSH)
        stream = first + packer.compress(text[1000:]) + packer.flush()
        path, cache = tmp_path / "bundle", tmp_path / f"cache-{number}"
        head = craft(path, launcher, indexed([b"a"], [len(text)]), stream, len(text))
        assert "does not start" in started(path, cache)
        assert (cache / "llamero/engines" / head.engine_digest.hex()[:32] / "a").read_bytes() == text


def test_changed_bytes_are_named(good: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(good)
    places = {part.role: part.at for part in bundle.parts}
    raw = good.read_bytes()
    gap = len(bundle.of("launcher")) + bundle.parts[0].size + 10
    for at, told in (
        (places["launcher"] + 100, "launcher"),
        (places["engine"] + 30, "engine"),
        (places["model"], "model"),
        (gap, "belong to no part"),
        (HEAD_AT + 1000, "belong to no part"),
        (bundle.head.manifest_at + 5, "manifest"),
    ):
        changed = bytearray(raw)
        changed[at] ^= 1
        good.write_bytes(changed)
        with pytest.raises(FormatError, match=told):
            Bundle.open(good).verify()
    changed = bytearray(raw)
    changed[places["engine"] + 30] ^= 1
    good.write_bytes(changed)
    assert "engine is damaged" in started(good, tmp_path / "cache")


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {"parts": 3},
        {"parts": [3]},
        {"parts": [{"role": "model"}]},
        {"parts": [{"role": "../model", "name": "m", "at": 131072, "size": 0, "sha256": ""}]},
        {"parts": [{"role": "model", "name": "m", "at": -5, "size": 1, "sha256": ""}]},
        {"parts": [{"role": "model", "name": "m", "at": 1, "size": 2**70, "sha256": ""}]},
        {"parts": [{"role": "model", "name": "m", "at": "1", "size": 1, "sha256": ""}]},
        {"parts": [{"role": "model", "name": "m", "at": 65530, "size": 100, "sha256": ""}]},
    ],
)
def test_manifests_that_lie(good: Path, manifest: object) -> None:
    head, raw = head_of(good), json.dumps(manifest).encode()
    with good.open("r+b") as file:
        file.seek(head.manifest_at)
        file.write(raw)
        file.truncate()
    digest = hashlib.sha256(raw).digest()
    lying = replace(head, manifest=len(raw), total=head.manifest_at + len(raw), manifest_digest=digest)
    rewritten(good, lying)
    with pytest.raises(FormatError):
        Bundle.open(good)


def test_parts_that_lead_out_of_a_folder(tmp_path: Path, launcher: bytes) -> None:
    path = tmp_path / "bundle"
    with bundle_file(path, launcher) as writer:
        writer.add("engine", "engine", [b""])
        writer.add("model", "../model.gguf", [b"GGUF"])
        writer.finish({}, 0, 0)
    with pytest.raises(FormatError, match="no file's name"):
        extract(Bundle.open(path), tmp_path / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]
