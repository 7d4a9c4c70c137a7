#!/usr/bin/env python3
"""Checks the page's vendored libraries against vendor.json; --fetch takes them anew from the npm registry."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tarfile
import urllib.request
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "src" / "llamero" / "interfaces" / "page" / "vendor"


def fetch(url: str) -> tarfile.TarFile:
    """The archive at an address."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return tarfile.open(fileobj=io.BytesIO(answer.read()), mode="r:gz")


def taken(archive: tarfile.TarFile, name: str) -> bytes:
    """The bytes of one file of an archive."""
    file = archive.extractfile(name)
    if file is None:
        raise SystemExit(f"{name} is not a file in its archive")
    return file.read()


def main() -> int:
    """Say what differs; the exit status is 1 where anything does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fetch", action="store_true", help="download, check and write the files")
    parser.add_argument("--accept", action="store_true", help="with --fetch: note the hashes of what was downloaded")
    arguments = parser.parse_args()
    libraries = json.loads((VENDOR / "vendor.json").read_text())
    wrong = 0
    for library in libraries:
        archive = fetch(library["archive"]) if arguments.fetch else None
        for name, file in library["files"].items():
            data = taken(archive, file["from"]) if archive else (VENDOR / name).read_bytes()
            found = hashlib.sha256(data).hexdigest()
            if arguments.accept:
                file["sha256"] = found
            if found != file["sha256"]:
                print(f"{name}: sha256 is {found}, vendor.json says {file['sha256']}")
                wrong = 1
            elif archive:
                (VENDOR / name).write_bytes(data)
    if arguments.accept and arguments.fetch:
        (VENDOR / "vendor.json").write_text(json.dumps(libraries, indent=2) + "\n")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
