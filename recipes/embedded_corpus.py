"""The texts of the embedded model: stories, stories as answers, and small talk. docs/embedded.md names their sources.

Reads a folder with `tinystories/`, `storybooks_en_fr_pt.jsonl.xz` and `synthetic/llama31_stories.jsonl.xz`. What comes
out is a function of the files and a seed alone.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import lzma
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Message: TypeAlias = tuple[str, str]
"""Who speaks ("" for plain text) and what."""
Talk: TypeAlias = tuple[list[str], list[str]]
"""Ways to say something, and ways to answer."""
ASCII = str.maketrans({"“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "–": "-", "—": "-", "…": "...", "\xa0": " "})


def _words(text: str) -> list[str]:
    return text.split()


def _ways(text: str) -> list[str]:
    return text.split("|")


SLOTS = {
    "name": _words("Anna Ben Lily Tom Sam Mia Max Lucy Tim Sara Jack Emma Leo Amy Peter Zoe Noah Ella Oscar Ruby"),
    "pet": _words("dog cat rabbit hamster bird fish pony puppy kitten turtle"),
    "animal": _words("dog cat mouse bear rabbit fox bird fish dragon llama frog lion owl duck pony"),
    "animals": _words("dogs cats birds horses bears rabbits llamas foxes ducks frogs lions owls"),
    "food": _words("cake apples bananas cookies bread soup pizza carrots cheese strawberries"),
    "color": _words("red blue green yellow purple pink orange black white"),
}
ASK = _ways(
    "Tell me a story.|Can you tell me a story?|Please tell me a short story.|Tell me a bedtime story.|I want a story.|"
    "Tell me a short story|tell me a story|Write a short story.|Make up a story for me.|Could you tell me a story?|"
    "Tell me another story.|I would like to hear a story, please."
)
ASK_ABOUT = _ways(
    "Tell me a story about {}.|Can you tell me a story about {}?|Write a short story about {}.|"
    "Please tell me a story about {}.|tell me a story about {}|I want a story about {}.|"
    "Tell me a short story about {}.|Write a story about {}|Tell me about {}."
)
SYSTEMS = _ways(
    "You are a helpful assistant.|You are a friendly storyteller.|You tell short stories for children.|"
    "You are Llama Stories, a small demonstration model.|Answer in a friendly way.|You are a kind helper."
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


@dataclass(frozen=True)
class Story:
    """A story, what one may ask to hear it, and how many times each epoch tells it."""

    text: str
    prompts: tuple[str, ...]
    tier: str

    @property
    def held_out(self) -> bool:
        """One in fifty is kept for measuring, by its content alone."""
        return hashlib.sha256(_key(self.text).encode()).digest()[0] < 5


def stories(folder: Path) -> list[Story]:
    """Every story of all tiers, each once."""
    told: dict[str, Story] = {}
    for story in itertools.chain(_tiny(folder / "tinystories"), _picture_books(folder), _llama(folder / "synthetic")):
        told.setdefault(_key(story.text), story)
    return list(told.values())


def talks(path: Path) -> list[Talk]:
    """Exchanges of the small-talk file: ways to say, ways to answer."""
    blocks = re.findall(r"^\? (.+)\n= (.+)$", path.read_text(), re.MULTILINE)
    return [(said.split(" | "), answered.split(" | ")) for said, answered in blocks]


def exchange(talk: Talk, rng: random.Random) -> list[Message]:
    """One way to hold an exchange: two messages, with the same names in both."""
    slots = {slot: rng.choice(words) for slot, words in SLOTS.items()}
    said, answered = (rng.choice(ways).format(**slots) for ways in talk)
    return [("user", said), ("assistant", answered[0].upper() + answered[1:])]


def conversation(all_talks: list[Talk], story: Story | None, rng: random.Random) -> list[Message]:
    """A few exchanges, sometimes with a system message first and a story last."""
    messages = [("system", rng.choice(SYSTEMS))] if rng.random() < 0.15 else []
    for talk in rng.sample(all_talks, rng.choice((1, 1, 2, 3)) if story is None else rng.choice((0, 0, 0, 1))):
        messages += exchange(talk, rng)
    if story is not None:
        messages += [("user", rng.choice(story.prompts)), ("assistant", story.text)]
        if rng.random() < 0.15:
            messages += exchange(rng.choice(all_talks), rng)
    return messages


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
            yield Story(text, _requests(text), "tiny")


def _named(text: str) -> str:
    """Capitals that the restoring rule missed: "a car named beep", "hey," he said, i."""
    text = re.sub(r"\bi\b", "I", text)
    text = re.sub(r'(?:(?<=\s")|(?<=^"))[a-z]', lambda match: match[0].upper(), text)
    for name in sorted(set(re.findall(r"\bnamed ([a-z]{3,})\b", text)) - COMMON):
        text = re.sub(rf"\b{name}\b", name.capitalize(), text)
    return text


def _requests(text: str) -> tuple[str, ...]:
    """What one may ask to hear this story: its hero, the things it often names, or just a story."""
    topics = []
    hero = re.search(r"\b(an? (?:[a-z]+,? ){0,2}[a-z]+) (?:named|called) ([A-Z][a-z]+)", text[:300])
    if hero:
        topics += [f"{hero[1]} named {hero[2]}", hero[1]]
    else:
        hero = re.search(r"there (?:was|lived) (an? (?:[a-z]+,? ){0,2}[a-z]+)(?=[.,]| who| that)", text[:200])
        topics += [hero[1]] if hero else []
    words = re.findall(r"\b(?:an?|the|big|little) ([a-z]{3,})(?=[.,!?\"]| and | was | is | in )", text)
    often = sorted({w for w in words if words.count(w) >= 3} - COMMON, key=lambda w: (-words.count(w), w))[:2]
    topics += [("an " if word[0] in "aeiou" else "a ") + word for word in often]
    asked = [ask.format(topic) for topic in topics for ask in ASK_ABOUT]
    return (*asked, *(ASK if not asked else ASK[:4]))


def _picture_books(folder: Path) -> Iterator[Story]:
    for line in _xz(folder / "storybooks_en_fr_pt.jsonl.xz").split("\n"):
        if not line:
            continue
        record = json.loads(line)
        text, title = _clean(record["text"]), _clean(record["title"])
        free = record["license"] == "CC-BY"  # a few are for non-commercial use only
        if free and record["lang"] == "en" and _sound(text, 1800):
            asks = [
                f"Tell me the story '{title}'.",
                f"Tell me a story called {title}.",
                f"Write a story called '{title}'.",
            ]
            yield Story(text, (*asks, *_requests(text)), "picture book")


def _llama(folder: Path) -> Iterator[Story]:
    """Stories that Llama 3.1 wrote for children, and its calm everyday scenes, with the prompts they answer."""
    longest = {"generated-child": 2300, "llama-slice-of-life": 1600}
    for line in _xz(folder / "llama31_stories.jsonl.xz").split("\n"):
        if not line:
            continue
        record = json.loads(line)
        kind, text = record["kind"], re.sub(r"^[^.!?\n]{3,60}\n\n", "", _clean(record["response"]))  # no title
        if kind not in longest or not _sound(text, longest[kind]) or re.search(r"[*#_\[]", text) or ADULT.search(text):
            continue
        prompt = _clean(record["prompt"]).replace("`", "'").replace("child-appropriate tale", "story")
        if prompt.isascii() and len(prompt) < 300 and not ADULT.search(prompt):
            yield Story(text, (*[prompt] * 8, *_requests(text)), kind)
