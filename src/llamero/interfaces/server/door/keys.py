"""API keys: several, each with a name, kept as digests in a file of the user's own.

A key that llamero makes has 256 random bits, so one SHA-256 hides it well enough: there is nothing to guess, and a slow
hash would only make each request slow. Keys are compared by `hmac.compare_digest`, and always with all of them, so the
time taken tells neither how much of a key was right nor whose it was.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llamero.errors import FormatError, SettingError, StorageError, nearest
from llamero.formats.lock import alone

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SHORTEST = 8  # characters; a shorter one given by hand is guessed in an afternoon
_LONGEST = 512
_PREFIX = "llamero-"


@dataclass(frozen=True)
class Key:
    """A key that is in use: its owner's name, the SHA-256 of the key (hex), when it was made (ISO 8601)."""

    name: str
    digest: str
    created: str


class KeyFile:
    """The keys in a file, which only its owner may read. It is looked at again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def read(self) -> tuple[Key, ...]:
        """The keys now in the file; none when there is no file.

        Raises FormatError when it is damaged, SettingError when others may read or write it.
        """
        try:
            about = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, ()
            return ()
        now = (about.st_ino, about.st_ctime_ns, about.st_size)  # the time of change: of its mode, too
        if now != self._seen:
            _check_private(self.path, about)
            self._keys = _parse(self.path)
            self._seen = now
        return self._keys

    def create(self, name: str) -> str:
        """Add a key of that name -> the key itself, which is shown here and never again."""
        check_name(name)
        with self._alone():
            keys = self.read()
            if any(key.name == name for key in keys):
                raise SettingError(f"there is a key named {name!r} already; revoke it first, or choose another name")
            key = _PREFIX + secrets.token_urlsafe(32)
            self._write([*keys, Key(name, _digest(key), datetime.now(UTC).isoformat(timespec="seconds"))])
        return key

    def revoke(self, name: str) -> None:
        """Take a key away; servers that run refuse it from the next request on."""
        with self._alone():
            keys = self.read()
            left = [key for key in keys if key.name != name]
            if len(left) == len(keys):
                hint = nearest(name, [key.name for key in keys]) if keys else "there are none"
                raise SettingError(f"there is no key named {name!r}: {hint}")
            self._write(left)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While the file is changed, no other process changes it."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with alone(self.path.parent):
                yield
        except OSError as error:
            raise StorageError(f"the keys could not be written to {self.path}: {error.strerror}") from error

    def _write(self, keys: Iterable[Key]) -> None:
        """Replace the file whole, so that a server never reads half of one."""
        rows = [{"name": key.name, "sha256": key.digest, "created": key.created} for key in keys]
        text = json.dumps({"version": 1, "keys": rows}, indent=1) + "\n"
        handle, draft = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")  # made with 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(draft, self.path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(draft)
            raise


class Keys:
    """All keys that open the server: those of the command line and of the environment, and those of a file."""

    def __init__(self, given: Mapping[str, str] | None = None, file: KeyFile | None = None) -> None:
        """given: keys by name, in clear; only their digests are kept."""
        self._given = tuple(Key(name, _digest(check_key(key)), "") for name, key in (given or {}).items())
        self._file = file

    def __len__(self) -> int:
        return len(self._all())

    def names(self) -> tuple[str, ...]:
        return tuple(key.name for key in self._all())

    def owner(self, given: str) -> str | None:
        """The name of the key, None where it is nobody's. Takes as long for each."""
        digest = _digest(given)
        found: str | None = None
        for key in self._all():  # to the end, whether found or not
            if hmac.compare_digest(key.digest, digest):
                found = key.name
        return found

    def _all(self) -> tuple[Key, ...]:
        return self._given + (self._file.read() if self._file else ())


def default_path(environ: Mapping[str, str]) -> Path:
    """Where `llamero keys` keeps them: $XDG_CONFIG_HOME/llamero/keys.json, or under ~/.config."""
    base = environ.get("XDG_CONFIG_HOME")
    folder = Path(base) if base and os.path.isabs(base) else Path.home() / ".config"
    return folder / "llamero" / "keys.json"


def check_name(name: str) -> str:
    """The name, if it is one. Raises SettingError."""
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"{name!r} cannot name a key: use letters, digits, and . _ @ - (not first), at most 64 characters"
        )
    return name


def check_key(key: str) -> str:
    """The key, if it can be sent in a header and is not guessed at once. Raises SettingError, without repeating it."""
    if not _SHORTEST <= len(key) <= _LONGEST or not all("!" <= letter <= "~" for letter in key):
        raise SettingError(
            f"a key needs {_SHORTEST} to {_LONGEST} characters of printable ASCII without spaces; "
            "`llamero keys create NAME` makes a good one"
        )
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _check_private(path: Path, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise SettingError(f"{path} is no file; name one for the keys, such as {path / 'keys.json'}")
    if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(about.st_mode)
        raise SettingError(f"{path} may be read by others (mode {mode:04o}); make it yours alone: chmod 600 {path}")


def _parse(path: Path) -> tuple[Key, ...]:
    try:
        data = json.loads(path.read_text())
        if not isinstance(data, dict) or data.get("version") != 1:
            raise ValueError("it is no key file of version 1")
        return tuple(_parse_key(row) for row in data["keys"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"the key file {path} is damaged: {error}") from error


def _parse_key(row: Mapping[str, str]) -> Key:
    key = Key(check_name(row["name"]), row["sha256"], row.get("created", ""))
    if not re.fullmatch(r"[0-9a-f]{64}", key.digest):
        raise ValueError(f"the digest of {key.name!r} is not a SHA-256")
    return key
