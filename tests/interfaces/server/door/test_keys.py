"""Keys: made once, kept as hashes, private, compared without telling how close a guess was."""

from __future__ import annotations

import ast
import inspect
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llamero.errors import FormatError, SettingError
from llamero.interfaces.cli.main import main
from llamero.interfaces.server.door import keys as module
from llamero.interfaces.server.door.keys import KeyFile, Keys, default_path


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "new" / "keys.json")


def test_a_key_opens_and_a_revoked_one_does_not(file: KeyFile) -> None:
    alice, bob = file.create("alice"), file.create("bob")
    keys = Keys({"cli": "by-hand-123"}, file)
    assert keys.names() == ("cli", "alice", "bob")
    assert [keys.owner(key) for key in (alice, bob, "by-hand-123", "wrong", "")] == ["alice", "bob", "cli", None, None]
    KeyFile(file.path).revoke("alice")  # another process
    assert keys.owner(alice) is None
    assert keys.owner(bob) == "bob"


def test_the_file_holds_no_key_and_is_private(file: KeyFile) -> None:
    key = file.create("alice")
    assert key not in file.path.read_text()
    assert len(key) > 40
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in file.path.parent.iterdir()) == [".lock", "keys.json"]


def test_a_file_that_others_may_read_is_refused(file: KeyFile) -> None:
    key = file.create("alice")
    keys = Keys(None, file)
    assert keys.owner(key) == "alice"
    file.path.chmod(0o644)
    with pytest.raises(SettingError, match="chmod 600"):
        keys.owner(key)


def test_keys_made_at_the_same_moment_are_all_there(file: KeyFile) -> None:
    names = [f"user-{n}" for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda name: KeyFile(file.path).create(name), names))
    assert [Keys(None, file).owner(key) for key in keys] == names


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 2, "keys": []}', '{"version": 1, "keys": [{"name": "a", "sha256": "xyz"}]}', "{"]
)
def test_a_damaged_file_opens_nothing(file: KeyFile, text: str) -> None:
    file.create("alice")
    file.path.write_text(text)
    with pytest.raises(FormatError, match="damaged"):
        file.read()


def test_names_and_keys_are_checked(file: KeyFile) -> None:
    file.create("alice")
    for name in ("alice", "", "../x", "a b", "a" * 65, "-a"):
        with pytest.raises(SettingError):
            file.create(name)
    with pytest.raises(SettingError, match="did you mean 'alice'"):
        file.revoke("alise")
    for key in ("short", "with space in it", "k" * 513, "nön-ascii-key"):
        with pytest.raises(SettingError) as error:
            Keys({"a": key})
        assert key not in str(error.value)


def test_comparison_takes_as_long_for_each_by_construction() -> None:
    """All digests are compared, by compare_digest, whatever was found before: no `==`, no way out of the loop."""
    tree = ast.parse(inspect.getsource(Keys.owner).replace("    def", "def", 1).replace("\n    ", "\n"))
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For)]
    assert len(loops) == 1
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Break | ast.Continue)]
    assert not [node for node in ast.walk(loops[0]) if isinstance(node, ast.Return | ast.Compare)]
    assert "hmac.compare_digest" in inspect.getsource(Keys.owner)
    assert "sha256" in inspect.getsource(module._digest)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(["keys", "create", "alice"]) == 0
    key = capsys.readouterr().out.strip()
    assert Keys(None, KeyFile(tmp_path / "llamero" / "keys.json")).owner(key) == "alice"
    assert main(["keys", "list"]) == 0
    told = capsys.readouterr()
    assert "alice" in told.out
    assert key not in told.out + told.err
    assert main(["keys", "create"]) == 2
    assert main(["keys", "revoke", "bob"]) == 1
    assert main(["keys", "revoke", "alice"]) == 0
    assert json.loads((tmp_path / "llamero" / "keys.json").read_text())["keys"] == []


def test_where_keys_are_kept(tmp_path: Path) -> None:
    assert default_path({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "llamero" / "keys.json"
    assert default_path({"XDG_CONFIG_HOME": "relative"}).parts[-3:] == (".config", "llamero", "keys.json")
