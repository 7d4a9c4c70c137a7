"""What a bundle says of itself, for people to read, and getting things out of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llamero.errors import FormatError, SettingError
from llamero.formats.atomic import atomic_file
from llamero.formats.bundle import Bundle, Part, Progress
from llamero.interfaces.family_tree import visible


def described(bundle: Bundle) -> Iterator[str]:
    """Lines about everything inside, with sizes and SHA-256. What the bundle says of itself is a stranger's text."""
    return map(visible, _described(bundle))


def _described(bundle: Bundle) -> Iterator[str]:
    about = bundle.manifest
    model = about.get("model", {})
    yield f"{bundle.path.name}: {model.get('name')}, {_count(model.get('parameters'))} parameters"
    made = f"llamero {about.get('llamero')}, Python {about.get('python')}, {about.get('libc')}"
    yield f"for Linux on {about.get('machine')}; engine of {about.get('files')} files: {made}"
    for name, value in about.get("settings", {}).items():
        yield f"setting  {name} = {_short(value)}"
    if "lineage" in model:
        yield f"lineage  {model['lineage']} (comes out with --extract, for `llamero lineage`)"
    yield ""
    for part in bundle.parts:
        if part.role != "licence":
            yield f"{part.role:8} {part.size:>14,} bytes  sha256 {part.sha256}  {part.name}"
    texts = bundle.of("licence")
    yield f"{'licences':8} {sum(part.size for part in texts):>14,} bytes  in {len(texts)} texts"
    yield f"{'whole':8} {bundle.head.total:>14,} bytes  identity {bundle.identity}"
    yield ""
    yield "licences of what is inside (their texts come out with --extract):"
    for one in about.get("licences", ()):
        yield f"  {one.get('name')} {one.get('version')}".rstrip() + f": {_short(one.get('licence', ''))}"
    if said := model.get("licence"):
        yield f"  the model: {_short(said)}"


def extract(bundle: Bundle, folder: Path, progress: Progress | None = None) -> list[Path]:
    """Write model, licences and manifest into a folder -> the files. Each is held against its hash.

    Raises SettingError where something of that name is there already, FormatError for a damaged part.
    """
    wanted = [(part, folder / _where(part)) for part in bundle.parts if part.role not in ("launcher", "engine")]
    for _, path in wanted:
        if path.exists():
            raise SettingError(f"{path} is there already; give an empty folder")
    bundle.verify(progress)
    for part, path in wanted:
        with atomic_file(path) as file:
            file.writelines(bundle.read(part))
    manifest = folder / "bundle.json"
    with bundle.path.open("rb") as file, atomic_file(manifest) as into:
        file.seek(bundle.head.manifest_at)
        into.write(file.read(bundle.head.manifest))
    return [*(path for _, path in wanted), manifest]


def _where(part: Part) -> str:
    name = Path(part.name)
    if name.is_absolute() or ".." in name.parts or not part.name.isprintable():
        raise FormatError(f"the bundle has a part named {part.name!r}, which is no file's name; do not trust it")
    return f"licences/{part.name}" if part.role == "licence" else part.name


def _count(number: object) -> str:
    if not isinstance(number, int):
        return "?"
    return f"{number / 1e9:.2f}B" if number >= 1e9 else f"{number / 1e6:.1f}M"


def _short(value: object) -> str:
    line = " ".join(str(value).split())
    return line if len(line) <= 100 else line[:97] + "..."
