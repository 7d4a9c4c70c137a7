"""A model card (README.md with the front matter of Hugging Face) written from a lineage and what the file itself says.

It says what is known and nothing else: how the thing was made, from what, under which licences. Whoever publishes it
adds what it is for. Texts from a lineage are quoted, so that none of them becomes markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llamero.formats.lineage.check import Member
from llamero.formats.lineage.record import Record
from llamero.interfaces.family_tree import command_line, visible
from llamero.interfaces.inspection import Report

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~])")
_LONGEST = 500  # characters of one entry


@dataclass(frozen=True)
class About:
    """What a lineage cannot know. licence: an identifier of the Hub's, as "apache-2.0". languages: codes, as "en"."""

    licence: str | None = None
    languages: tuple[str, ...] = ()


def card(record: Record, members: Sequence[Member], report: Report | None = None, about: About | None = None) -> str:
    """The card's text. report: of a model's file, where the artefact is one."""
    about = about or About()
    parts = [
        _front_matter(record, members, report, about),
        f"# {_quoted(record.name)}",
        "\n".join(_introduction(record, report)),
        "\n".join(_sources(record, members)),
        "\n".join(_making(record, members)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(record: Record, members: Sequence[Member], report: Report | None, about: About) -> str:
    """YAML, whose strings may be written as JSON's."""
    lines = ["---"]
    if about.licence:
        lines.append(f"license: {json.dumps(about.licence)}")
    if about.languages:
        lines.append(f"language: {json.dumps(list(about.languages))}")
    tags = ["llamero", "llama"]
    if report is not None:
        library = "gguf" if report.layout == "gguf" else "transformers"
        lines += ["pipeline_tag: text-generation", f"library_name: {library}"]
    bases = [member.parent.name for member in members if member.depth == 1 and member.parent.role == "base"]
    if bases:
        lines.append(f"base_model: {json.dumps(bases)}")
    return "\n".join([*lines, f"tags: {json.dumps([*tags, record.kind])}", "---"])


def _introduction(record: Record, report: Report | None) -> Iterator[str]:
    llamero = record.versions.get("llamero", "")
    yield f"Made with llamero {_quoted(llamero)} on {_quoted(record.made[:10])}. Kind: {_quoted(record.kind)}."
    if report is None:
        return
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| parameters | {report.parameters:,} |"
    if report.config is not None:
        config = report.config
        yield f"| shape | {config.layers} layers of width {config.dim}, feed-forward {config.ffn_dim} |"
        yield f"| heads | {config.heads} of {config.head_dim}, {config.kv_heads} for keys and values |"
        yield f"| vocabulary, context | {config.vocab:,} tokens, {config.context:,} tokens |"
    types = ", ".join(f"{total.type} ({total.parameters:,})" for total in report.types)
    yield f"| number formats | {_quoted(types)} |"
    if report.chat_template:
        yield f"| chat format | {_quoted(report.chat_template['family'])} |"


def _sources(record: Record, members: Sequence[Member]) -> Iterator[str]:
    """What nothing we know of came before, and every licence on the way."""
    leaves: dict[str, Member] = {}
    for member in members:
        if member.record is None or not member.record.parents:
            leaves.setdefault(member.parent.digest.sha256, member)
    if leaves:
        yield "## What it was made from"
        yield ""
        yield "| source | bytes | sha256 | licence |"
        yield "|---|---|---|---|"
        for sha256, member in leaves.items():
            notes = "; ".join(member.record.licences) if member.record else ""
            size = f"{member.parent.digest.bytes:,}"
            yield f"| {_quoted(member.parent.name)} | {size} | `{sha256[:16]}` | {_quoted(notes) or 'not recorded'} |"
    further = dict.fromkeys(note for each in _records(record, members) if each.parents for note in each.licences)
    if further:
        yield ""
        yield "Licences noted on the way:"
        yield ""
        yield from (f"- {_quoted(note)}" for note in further)


def _making(record: Record, members: Sequence[Member]) -> Iterator[str]:
    yield "## How it was made"
    for each in reversed(list(_records(record, members))):
        if not each.parents and each is not record:
            continue
        yield ""
        yield f"**{_quoted(each.kind)}** {_quoted(each.name)}, {_quoted(each.made)}:"
        if each.command:
            yield ""
            yield f"    {visible(command_line(each), _LONGEST)}"
        if each.settings:
            yield ""
            yield "| setting | value |"
            yield "|---|---|"
            for name, value in each.settings.items():
                yield f"| {_quoted(name)} | {_quoted(json.dumps(value, ensure_ascii=False))} |"
    yield ""
    yield f"Versions: {_quoted(', '.join(f'{name} {version}' for name, version in record.versions.items()))}."


def _records(record: Record, members: Sequence[Member]) -> Iterator[Record]:
    """Each record once, the artefact's own first."""
    yield record
    for member in members:
        if member.record is not None and not member.repeated:
            yield member.record


def _quoted(text: str) -> str:
    """On one line, without markup."""
    return _MARKUP.sub(r"\\\1", visible(text, _LONGEST))
