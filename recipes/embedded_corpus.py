"""The stories of the embedded model, and what one may ask to hear them. docs/embedded.md names their sources.

Reads a folder with `tinystories/`, `storybooks_en_fr_pt.jsonl.xz` and `synthetic/llama31_stories.jsonl.xz`, and one of
further TinyStories (`embedded_texts.py`). What comes out is a function of the files and a seed alone.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import lzma
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ASCII = str.maketrans({"“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "–": "-", "—": "-", "…": "...", "\xa0": " "})


def _words(text: str) -> list[str]:
    return text.split()


def _ways(text: str) -> list[str]:
    return text.split("|")


ASK = _ways(
    "Tell me a story.|Can you tell me a story?|Please tell me a short story.|Tell me a bedtime story.|I want a story.|"
    "Tell me a short story|tell me a story|Write a short story.|Make up a story for me.|Could you tell me a story?|"
    "Tell me another story.|I would like to hear a story, please."
)
ASK_BRIEF = _ways(
    "Tell me a very short story.|Tell me a tiny story.|I want a very short story.|A very short story, please."
)
ASK_ABOUT = _ways(
    "Tell me a story about {}.|Can you tell me a story about {}?|Write a short story about {}.|"
    "Please tell me a story about {}.|tell me a story about {}|I want a story about {}.|"
    "Tell me a short story about {}.|Write a story about {}|A story about {}, please.|Do you know a story about {}?|"
    "I would like to hear a story about {}.|story about {}|Tell me a bedtime story about {}.|Make up a story about {}."
)
# what a story for small children does without
ADULT = re.compile(
    r"\b(blood\w*|kill\w*|murder\w*|corpse\w*|gun|guns|knife|drug\w*|drunk\w*|beer|wine|whisk\w*|cigar\w*|smok(?:ed|ing)|"
    r"suicid\w*|sex\w*|naked|lovers?|weapon\w*|soldiers?|torture\w*|demon\w*|hell|damn\w*|non-binary|detective|death)\b",
    re.IGNORECASE,
)
COMMON = frozenset(
    _words(
        "the and was were had has have she her him his they them their that this then there with said for but "
        "very all one day time you your not from out big little old who what when went want wanted were are "
        "would could did his into saw more some like liked loved can get got its too back upon once home play "
        "played happy again mom dad mommy daddy girl boy man woman lady friend friends "
    )
)
# words that are no names and no topics
WORD = re.compile(r"[A-Za-z']*[A-Za-z][A-Za-z']*")
ANSWER = 1900  # characters: with its request a longer story would not fit the context
KINDS = ("generated-child", "llama-stories", "llama-slice-of-life")
SHARE = {"generated-child": 0.93, "llama-stories": 0.95, "llama-slice-of-life": 0.95, "book": 0.94}


@dataclass(frozen=True)
class Story:
    """A story, and what one may ask to hear it; nothing where it is too long for an answer or no whole story."""

    text: str
    prompts: tuple[str, ...]
    tier: str
    hero: str = ""  # "a dog named Spot", where the text says so

    @property
    def held_out(self) -> bool:
        """One in fifty is kept for measuring, by its content alone."""
        return hashlib.sha256(_key(self.text).encode()).digest()[0] < 5


def stories(folder: Path, more: Path | None = None) -> list[Story]:
    """Every story of all tiers, each once; harder ones only as far as their words are those of the simplest."""
    told: dict[str, Story] = {}
    llama = list(_llama(folder / "synthetic"))
    for story in itertools.chain(_tiny(folder / "tinystories"), _picture_books(folder), llama):
        if story.tier in ("tiny", "picture book", "generated-child"):
            told.setdefault(_key(story.text), story)
    told |= _further(more, list(told.values())) if more else {}
    simple = _Simple([story.text for story in told.values()])
    for story in itertools.chain(llama, _passages(folder / "books_children.jsonl.xz")):
        told.setdefault(_key(story.text), story)
    return [story for story in told.values() if simple(story.text, SHARE.get(story.tier, 0.0))]


class _Simple:
    """Whether a text is made of words that stories for small children use."""

    def __init__(self, texts: list[str]) -> None:
        counted = Counter(word for text in texts for word in WORD.findall(text.lower()))
        self.known = {word for word, times in counted.items() if times >= 8}

    def __call__(self, text: str, share: float) -> bool:
        """At least this share of its words is known or a name, and its sentences have 18 words at most on average."""
        if not share:
            return True
        words = WORD.findall(text)
        known = sum(word.lower() in self.known or word[0].isupper() for word in words)
        return known >= share * len(words) and len(words) <= 18 * len(re.findall(r"[.!?]+", text))


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _clean(text: str) -> str:
    """Plain ASCII punctuation, and UTF-8 that was once read as Windows-1252 put right."""
    if "â" in text:
        text = re.sub("â€[\x80-\xff\u0152-\u2122]?", _repaired, text)
    text = re.sub(r"[ \t]+(?=\n)|(?<=\n)[ \t]+", "", text.translate(ASCII))
    return re.sub(r"\n{2,}", "\n\n", text).strip()


def _repaired(match: re.Match[str]) -> str:
    try:
        return match[0].encode("cp1252").decode()
    except UnicodeError:
        return '"'


def _sound(text: str, longest: int) -> bool:
    """Whole, plain and of a good length: begins a sentence, ends one, and is ASCII."""
    return 250 <= len(text) <= longest and text.isascii() and text[0].isupper() and text[-1] in '.!?"'


def _xz(path: Path) -> str:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return file.read()


def _tiny(folder: Path) -> Iterator[Story]:
    """TinyStories; the copies with original capitals come first and win."""
    line = re.compile(r"(?<!\n)\n(?!\n)")  # stories end in one newline, their paragraphs in two
    texts = json.loads(_xz(folder / "train_first1000.json.xz")) + line.split(_xz(folder / "train_head_cased.txt.xz"))
    texts += _xz(folder / "train_10k_lines.txt.xz").split("<|endoftext|>")
    texts += [_named(text) for text in line.split(_xz(folder / "train_head_recased.txt.xz"))]
    for text in map(_clean, texts):
        text = re.sub(r"(?<!\n)\n(?!\n)", "\n\n", text)
        if _sound(text, 2400):
            yield Story(text, _requests(text), "tiny", "".join(_hero(text)))


def _further(folder: Path, told: list[Story]) -> dict[str, Story]:
    """More of TinyStories, without what was told already: no story is new where half of its sentences were heard."""
    heard = {sentence for story in told for sentence in _sentences(story.text)}
    new = {}
    for path in sorted(folder.glob("*.txt")):
        for text in map(_clean, path.read_text(encoding="utf-8").split("<|endoftext|>")):
            text = re.sub(r"(?<!\n)\n(?!\n)", "\n\n", text)
            sentences = _sentences(text)
            if _sound(text, 2400) and len(sentences & heard) * 2 < len(sentences):
                new[_key(text)] = Story(text, _requests(text), "tiny", "".join(_hero(text)))
                heard |= sentences
    return new


def _sentences(text: str) -> set[str]:
    """The letters of its sentences, those of fewer than 25 left out: many stories share them."""
    return {letters for letters in map(_key, re.split(r"[.!?\n]+", text)) if len(letters) >= 25}


def _named(text: str) -> str:
    """Capitals that the restoring rule missed: "a car named beep", "hey," he said, i."""
    text = re.sub(r"\bi\b", "I", text)
    text = re.sub(r'(?:(?<=\s")|(?<=^"))[a-z]', lambda match: match[0].upper(), text)
    for name in sorted(set(re.findall(r"\bnamed ([a-z]{3,})\b", text)) - COMMON):
        text = re.sub(rf"\b{name}\b", name.capitalize(), text)
    return text


def _requests(text: str) -> tuple[str, ...]:
    """What one may ask to hear this story: its hero, the things it often names, or just a story."""
    hero = _hero(text)
    words = re.findall(r"\b(?:an?|the|big|little) ([a-z]{3,})(?=[.,!?\"]| and | was | is | in )", text)
    often = sorted({w for w in words if words.count(w) >= 3} - COMMON, key=lambda w: (-words.count(w), w))[:2]
    things = [("an " if word[0] in "aeiou" else "a ") + word for word in often]
    topics = [f"{kind}{named}" for kind, named in [hero] if kind] + [kind for kind, named in [hero] if named] + things
    topics += [
        f"{hero[0] or things[0]} and {thing}"
        for thing in things[-1:]
        if thing != hero[0] and (hero[0] or len(things) > 1)
    ]
    names = [name for name in re.findall(r"\b[A-Z][a-z]{2,}", text) if name.lower() not in COMMON]
    often_named = sorted(
        {name for name in names if names.count(name) >= 3}, key=lambda name: (-names.count(name), name)
    )
    topics += [" and ".join(often_named[:2])] if often_named else []
    asked = [ask.format(topic) for topic in dict.fromkeys(topics) for ask in ASK_ABOUT]
    return (*asked, *(ASK if not asked else ASK[:6]), *(ASK_BRIEF * 4 if len(text) < 600 else ()))


def _hero(text: str) -> tuple[str, str]:
    """Whom the story's beginning presents: "a dog" and " named Spot", either or both empty where it does not say."""
    named = re.search(r"\b(an? (?:[a-z]+,? ){0,2}[a-z]+) (?:named|called) ([A-Z][a-z]+)", text[:300])
    if named:
        return named[1], f" named {named[2]}"
    nameless = re.search(r"there (?:was|lived) (an? (?:[a-z]+,? ){0,2}[a-z]+)(?=[.,]| who| that)", text[:200])
    return (nameless[1], "") if nameless else ("", "")


def _picture_books(folder: Path) -> Iterator[Story]:
    for record in _records(folder / "storybooks_en_fr_pt.jsonl.xz"):
        text, title = _clean(record["text"]), _clean(record["title"])
        free = record["license"] == "CC-BY"  # a few are for non-commercial use only
        if free and record["lang"] == "en" and _sound(text, 4000):
            asks = [
                f"Tell me the story '{title}'.",
                f"Tell me a story called {title}.",
                f"Write a story called '{title}'.",
            ]
            yield Story(
                text, (*asks, *_requests(text)) if len(text) <= ANSWER else (), "picture book", "".join(_hero(text))
            )


def _llama(folder: Path) -> Iterator[Story]:
    """Stories that Llama 3.1 wrote, those unfit for children left out, with the prompts they answer."""
    for record in _records(folder / "llama31_stories.jsonl.xz"):
        kind, text = record["kind"], re.sub(r"^[^.!?\n]{3,60}\n\n", "", _clean(record["response"]))  # no title
        if kind not in KINDS or not _sound(text, 5000) or re.search(r"[*#_\[]", text) or ADULT.search(text):
            continue
        prompt = _clean(record["prompt"]).replace("`", "'").replace("child-appropriate tale", "story")
        if prompt.isascii() and len(prompt) < 300 and not ADULT.search(prompt):
            yield Story(
                text, (*[prompt] * 8, *_requests(text)) if len(text) <= ANSWER else (), kind, "".join(_hero(text))
            )


def _passages(path: Path) -> Iterator[Story]:
    """Old children's books, cut at paragraphs into passages of about 1,200 characters."""
    for record in _records(path):
        passage = ""
        for paragraph in re.split(r"\n\s*\n", record["text"]):
            passage += ("\n\n" if passage else "") + " ".join(paragraph.split())
            if len(passage) > 1200:
                text, passage = _clean(passage), ""
                if (
                    _sound(text, 3000)
                    and not re.search(r"[*#_\[=]|--|CHAPTER|Chapter", text)
                    and not ADULT.search(text)
                ):
                    yield Story(text, (), "book")


def _records(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in _xz(path).split("\n") if line)
