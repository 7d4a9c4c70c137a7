"""The conversations of the embedded model: small talk, what it knows of its world, sums, and stories on request.

Reads `embedded_talk.txt` and `embedded_world.txt`; everything drawn is a function of the files and the generator.
"""

from __future__ import annotations

import json
import lzma
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from embedded_corpus import Story

Message: TypeAlias = tuple[str, str]
"""Who speaks ("" for plain text) and what."""
Turn: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""Ways to say something, and ways to answer."""
Row: TypeAlias = dict[str, str]


def _cut(text: str, mark: str) -> tuple[str, ...]:
    return tuple(text.split(mark))


FILES = tuple(Path(__file__).with_name(f"embedded_{name}.txt") for name in ("talk", "world"))
SYSTEMS = (
    "You are a helpful assistant.",
    "You are a friendly storyteller.",
    "You tell short stories for children.",
    "You are Llama Stories, a small demonstration model.",
    "Answer in a friendly way.",
    "You are a kind helper.",
)
UNKNOWN = (
    "I am sorry, I do not know that. I am only a small demonstration model.",
    "I do not know the answer. I am only a small model that tells stories.",
    "I am sorry, that is too hard for me. I am a small demonstration model.",
    "That is a hard question, and I am only a small model. I do not know.",
)
NUMBERS = _cut(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty",
    " ",
)
DAYS = _cut("Monday Tuesday Wednesday Thursday Friday Saturday Sunday", " ")
MONTHS = _cut("January February March April May June July August September October November December", " ")
SIZES = _cut(
    "an ant|a bee|a butterfly|a frog|a mouse|a bird|a hamster|a squirrel|a rabbit|a cat|a fox|a dog|a goat|a sheep|"
    "a wolf|a pig|a lion|a bear|a horse|a cow|a hippo|a giraffe|an elephant|a whale",
    "|",
)
"""Animals, from small to big."""
SHARES = (0.42, 0.38, 0.14, 0.06)  # of small talk, its world, numbers and days, and what it cannot know


@dataclass(frozen=True)
class Block:
    """One exchange or several that belong together, and the tables they speak of."""

    turns: tuple[Turn, ...]
    tables: tuple[str, ...]
    rows: tuple[Row, ...]  # of its table, those with every cell that is named

    @property
    def weight(self) -> float:
        return len(self.rows)


class Chat:
    """All that can be talked about."""

    def __init__(self, files: Sequence[Path] = FILES, questions: Sequence[str] = ()) -> None:
        """questions: asked by people, and beyond a small model."""
        texts = [path.read_text() for path in files]
        self.words = {
            name: tuple(words.split(" | ")) for name, words in re.findall(r"^\$ (\w+): (.+)$", "\n".join(texts), re.M)
        }
        tables = {name: rows for text in texts for name, rows in _tables(text)}
        self.animals = tables["animal"]
        blocks = [block for text in texts for block in _blocks(text, tables)]
        self.talk = [block for block in blocks if not block.tables]
        self.world = [block for block in blocks if block.tables]
        self.questions = tuple(questions)

    def exchange(self, rng: random.Random) -> list[Message]:
        """Something said and its answer, or a few of them."""
        kind = rng.choices(("talk", "world", "sums", "unknown"), SHARES)[0]
        if kind == "talk":
            return self.hold(rng.choice(self.talk), rng)
        if kind == "world":
            return self.hold(rng.choices(self.world, [block.weight for block in self.world])[0], rng)
        if kind == "sums" and rng.random() < 0.1:
            said, answered = _food(self.animals, rng)
        elif kind == "sums" or not self.questions:
            said, answered = rng.choices([maker for maker, _ in MAKERS], [weight for _, weight in MAKERS])[0](rng)
        else:
            said, answered = rng.choice(self.questions), rng.choice(UNKNOWN)
        return [("user", said), ("assistant", answered)]

    def hold(self, block: Block, rng: random.Random) -> list[Message]:
        """One way to hold a block's exchanges, with the same names in all of them."""
        slots: dict[str, str | Row] = {slot: rng.choice(words) for slot, words in self.words.items()}
        if block.tables:
            slots[block.tables[0]] = rng.choice(block.rows)
        messages = []
        for said, answered in block.turns:
            messages.append(("user", _said(rng.choice(said), slots)))
            messages.append(("assistant", _sentence(rng.choice(answered).format(**slots))))
        return messages

    def conversation(self, rng: random.Random, told: Sequence[Story] = ()) -> list[Message]:
        """A few exchanges, sometimes with a system message first; stories that are given come last."""
        messages = [("system", rng.choice(SYSTEMS))] if rng.random() < 0.15 else []
        for _ in range(rng.choice((0, 0, 0, 1)) if told else rng.choice((1, 1, 2, 2, 3, 4))):
            messages += self.exchange(rng)
        for story in told:
            messages += [("user", rng.choice(story.prompts)), ("assistant", story.text)]
        if told and told[-1].hero and rng.random() < 0.2:
            messages += _asked_after(told[-1].hero, rng)
        if told and rng.random() < 0.1:
            messages += self.exchange(rng)
        return [(role, vary(said, rng) if role == "user" else said) for role, said in messages]

    def texts(self) -> list[str]:
        """All that may be said, once, for the vocabulary."""
        said = [way for block in self.talk + self.world for turn in block.turns for ways in turn for way in ways]
        cells = [cell for block in self.world for row in block.rows for cell in row.values()]
        return said + cells + [word for words in self.words.values() for word in words]


def vary(said: str, rng: random.Random) -> str:
    """What is said as people type it: now and then without capitals, without its last mark, or shortened."""
    draw = rng.random()
    if draw < 0.10:
        said = said.lower()
    elif draw < 0.16:
        said = re.sub(r"\bWhat is\b", "What's", said)
    elif draw < 0.20 and re.match(r"(What|Which|Who|Where|How|Why|When|Do|Can|Are|Is|Tell|Write|Count|Name) ", said):
        said = f"{rng.choice(('Please', 'Hey', 'Hi', 'Hello', 'So'))}, {said[0].lower()}{said[1:]}"
    if rng.random() < 0.15:
        said = said.rstrip(".?!") or said
    return said


def _asked_after(hero: str, rng: random.Random) -> list[Message]:
    said = (
        "Who is the story about?",
        "What was the story about?",
        "Who was in the story?",
        "Who was that story about?",
    )
    return [("user", rng.choice(said)), ("assistant", f"The story is about {hero}.")]


def _said(way: str, slots: Mapping[str, str | Row]) -> str:
    text = _articles(way.format(**slots))
    return text[0].upper() + text[1:] if way[0] == "{" else text


def _articles(text: str) -> str:
    """Says "an" before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeio]|u(?!ni))", r"\1n ", text)


def _sentence(text: str) -> str:
    """Every sentence begins with a capital."""
    text = _articles(text)
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def _tables(text: str) -> list[tuple[str, list[Row]]]:
    found = []
    for name, columns, body in re.findall(r"^@ (\w+): (.+)\n((?:[^?=@#\n].*\n)+)", text, re.M):
        names = columns.split(" | ")
        found.append((name, [dict(zip(names, line.split(" | "), strict=True)) for line in body.splitlines()]))
    return found


def _blocks(text: str, tables: dict[str, list[Row]]) -> list[Block]:
    blocks = []
    for body in re.findall(r"^((?:\? .+\n= .+(?:\n|\Z))+)", text, re.M):
        pairs = re.findall(r"^\? (.+)\n= (.+)$", body, re.M)
        turns = tuple((tuple(said.split(" | ")), tuple(answered.split(" | "))) for said, answered in pairs)
        named = tuple(sorted(set(re.findall(r"\{(\w+)\[", body))))
        cells = set(re.findall(r"\[(\w+)\]", body))
        rows = [row for row in tables[named[0]] if all(row[cell] != "-" for cell in cells)] if named else []
        blocks.append(Block(turns, named, tuple(rows)))
    return blocks


def _number(number: int, rng: random.Random) -> str:
    return NUMBERS[number] if number < len(NUMBERS) and rng.random() < 0.5 else str(number)


def _sum(rng: random.Random) -> tuple[str, str]:
    """a + b or a - b up to twenty."""
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    minus = rng.random() < 0.35
    if minus:
        a, b = max(a, b), min(a, b)
    result, word = (a - b, "minus") if minus else (a + b, "plus")
    sign = "-" if minus else "+"
    if rng.random() < 0.5:
        one, other, answer = NUMBERS[a], NUMBERS[b], NUMBERS[result]
    else:
        one, other, answer = str(a), str(b), str(result)
    asked = [
        f"What is {one} {word} {other}?",
        f"How much is {one} {word} {other}?",
        f"Can you tell me {one} {word} {other}?",
    ]
    if one.isdigit():
        asked += [
            f"What is {one} {sign} {other}?",
            f"{one} {sign} {other}",
            f"How much is {one} {sign} {other}?",
            f"{one}{sign}{other}=?",
        ]
    return rng.choice(asked), f"{one} {word} {other} is {answer}.".capitalize()


def _large_sum(rng: random.Random) -> tuple[str, str]:
    a, b, word = (
        rng.randint(21, 9999),
        rng.randint(21, 999),
        rng.choice(("+", "-", "*", "plus", "times", "minus", "divided by")),
    )
    said = rng.choice(
        (
            f"What is {a} {word} {b}?",
            f"{a} {word} {b}",
            f"How much is {a} {word} {b}?",
            f"What is the square root of {a}?",
        )
    )
    return said, rng.choice(
        (
            "That is too hard for me. I can only add small numbers.",
            "I am sorry, I am only a small model and can only add small numbers.",
        )
    )


def _apples(rng: random.Random) -> tuple[str, str]:
    """A sum with things."""
    a, b = rng.randint(1, 6), rng.randint(1, 4)
    who = rng.choice(("Tom", "Lily", "Ben", "Anna", "Max", "Mia", "Sam", "Lucy"))
    thing = rng.choice(("apples", "balls", "cookies", "books", "flowers"))
    if a > b and rng.random() < 0.4:
        told, left = f"{who} has {NUMBERS[a]} {thing if a != 1 else thing[:-1]} and gives {NUMBERS[b]} away.", a - b
    else:
        told, left = f"{who} has {NUMBERS[a]} {thing if a != 1 else thing[:-1]} and gets {NUMBERS[b]} more.", a + b
    thing = thing if left != 1 else thing[:-1]
    return (
        f"{told} How many {thing if left != 1 else thing + 's'} does {who} have now?",
        f"{who} has {NUMBERS[left]} {thing} now.",
    )


def _next_number(rng: random.Random) -> tuple[str, str]:
    number, after = rng.randint(1, 19), rng.random() < 0.6
    word, result = ("after", number + 1) if after else ("before", number - 1)
    shown, answer = (str(number), str(result)) if rng.random() < 0.5 else (NUMBERS[number], NUMBERS[result])
    said = rng.choice(
        (f"What comes {word} {shown}?", f"Which number comes {word} {shown}?", f"What number is {word} {shown}?")
    )
    verb = "comes"
    return said, f"{answer} {verb} {word} {shown}.".capitalize()


def _count(rng: random.Random) -> tuple[str, str]:
    first, last = rng.choice(((1, 3), (1, 5), (1, 10), (1, 10), (1, 20), (2, 6), (3, 8), (5, 10), (4, 9), (6, 12)))
    words = NUMBERS[first : last + 1]
    end = rng.choice((NUMBERS[last], str(last)))
    said = [f"Count from {NUMBERS[first]} to {end}.", f"Can you count from {first} to {last}?"]
    if first == 1:
        said += [f"Count to {end}.", f"Can you count to {end}?", f"Please count to {end}."]
    return rng.choice(said), f"{', '.join(words)}.".capitalize()


def _count_down(rng: random.Random) -> tuple[str, str]:
    first = rng.choice((3, 5, 10))
    said = rng.choice(
        (f"Count down from {NUMBERS[first]}.", f"Count backwards from {first}.", f"Can you count down from {first}?")
    )
    return said, f"{', '.join(reversed(NUMBERS[1 : first + 1]))}.".capitalize()


def _larger(rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(range(1, 21), 2)
    more, less = (a, b) if a > b else (b, a)
    if rng.random() < 0.5:
        said = rng.choice(
            (f"Which is bigger, {a} or {b}?", f"What is more, {a} or {b}?", f"Which number is bigger, {a} or {b}?")
        )
        return said, f"{more} is bigger than {less}."
    said = rng.choice((f"Is {a} bigger than {b}?", f"Is {a} more than {b}?"))
    return said, f"Yes, {a} is bigger than {b}." if a > b else f"No, {a} is smaller than {b}."


def _animals(rng: random.Random) -> tuple[str, str]:
    """Which of two animals is bigger: at least three places apart in the order of sizes."""
    small = rng.randrange(len(SIZES) - 3)
    less, more = SIZES[small], SIZES[rng.randrange(small + 3, len(SIZES))]
    a, b = rng.sample((less, more), 2)
    said = rng.choice((f"Which is bigger, {a} or {b}?", f"What is bigger, {a} or {b}?", f"Who is bigger, {a} or {b}?"))
    if rng.random() < 0.3:
        return said.replace("bigger", "smaller"), _sentence(f"{less} is smaller than {more}.")
    if rng.random() < 0.4:
        answer = f"Yes, {a} is bigger than {b}." if a == more else f"No, {a} is smaller than {b}."
        return f"Is {a} bigger than {b}?", answer
    return said, _sentence(f"{more} is bigger than {less}.")


def _food(rows: Sequence[Row], rng: random.Random) -> tuple[str, str]:
    """Whether an animal eats what another one eats: no, where not a word of both foods is the same."""
    eater, other = rng.choice(rows), rng.choice(rows)
    while set(re.findall(r"\w{4,}", eater["food"])) & set(re.findall(r"\w{4,}", other["food"])):
        eater, other = rng.choice(rows), rng.choice(rows)
    said = rng.choice((f"Do {eater['many']} eat {other['food']}?", f"Does {eater['a']} eat {other['food']}?"))
    return said, f"No, {eater['many']} eat {eater['food']}."


def _neighbour(names: Sequence[str], kind: str) -> Callable[[random.Random], tuple[str, str]]:
    """Which day or month comes after or before another."""

    def made(rng: random.Random) -> tuple[str, str]:
        place, after = rng.randrange(len(names)), rng.random() < 0.6
        word, other = ("after", names[(place + 1) % len(names)]) if after else ("before", names[place - 1])
        said = [
            f"What comes {word} {names[place]}?",
            f"Which {kind} comes {word} {names[place]}?",
            f"What {kind} is {word} {names[place]}?",
        ]
        if kind == "day":
            day = "tomorrow" if after else "yesterday"
            said.append(f"Today is {names[place]}. What day {'is' if after else 'was'} {day}?")
        return rng.choice(said), f"{other} comes {word} {names[place]}."

    return made


MAKERS: tuple[tuple[Callable[[random.Random], tuple[str, str]], float], ...] = (
    (_sum, 5), (_large_sum, 1), (_apples, 2), (_next_number, 2), (_count, 1.5), (_count_down, 0.5), (_larger, 1.5),
    (_animals, 3), (_neighbour(DAYS, "day"), 2), (_neighbour(MONTHS, "month"), 2),
)  # fmt: skip
"""What is made up by rule, and how often."""


def hard_questions(folder: Path) -> list[str]:
    """Trivia that Llama 3.1 made up: good examples of what a small model cannot know."""
    with lzma.open(folder / "synthetic" / "llama31_knowledge.jsonl.xz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file if '"generated-trivia"' in line]
    asked = [record["prompt"].strip() for record in records if record["kind"] == "generated-trivia"]
    return sorted(
        {said for said in asked if said.isascii() and 15 < len(said) < 120 and "\n" not in said and said[1] != ":"}
    )
