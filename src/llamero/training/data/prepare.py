"""From text to what a run learns from: a vocabulary, tokens, and tokens held out; made once in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

from llamero.corpus.held_out import is_held_out
from llamero.corpus.texts import documents, text_files
from llamero.corpus.tokenize import HELD_OUT, Job, tokenize
from llamero.errors import SettingError
from llamero.formats.lineage import lineage
from llamero.formats.shards import MANIFEST, Shards
from llamero.tokenizer.learn import learn
from llamero.tokenizer.learn_sentencepiece import learn_sentencepiece
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.tokenizer import Tokenizer
from llamero.training.data.batch import Source
from llamero.training.data.batches import Batches
from llamero.training.data.joined import Joined
from llamero.training.data.mixture import Mixture, open_mix
from llamero.training.data.part import Part
from llamero.training.data.ramp import Ramped
from llamero.training.data.tokens import Stream
from llamero.training.folder import Folder
from llamero.training.listener import Listener
from llamero.training.recipe import Recipe
from llamero.training.validation import MOST, HeldOut, byte_sizes

_FEW = 100  # documents: of fewer, the end of all is held out instead of whole ones


@dataclass(frozen=True)
class Data:
    """What a run learns from: text files or shards, and the tokenizer, or None to learn one from the text.

    shards: folders, of a mixture each with its share, as `parse_mix` reads them.
    workers: processes that tokenize; more than one need a main module that can be imported again.
    """

    text: tuple[Path, ...] = ()
    shards: tuple[Path, ...] = ()
    tokenizer: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if bool(self.text) == bool(self.shards):
            raise SettingError("a run learns from text files or from shards: give one of the two, --text or --shards")
        if self.shards and self.tokenizer is None:
            raise SettingError("shards hold ids alone: give the tokenizer that they were written with, --tokenizer")
        if self.workers < 1:
            raise SettingError(f"there must be at least one worker, got {self.workers}")


@dataclass(frozen=True)
class Prepared:
    """All that a run needs of its data."""

    recipe: Recipe  # with the vocabulary's true size
    tokenizer: Tokenizer
    source: Source
    held_out: HeldOut | None
    parents: tuple[tuple[str, Path], ...]  # of whatever the run makes, for its lineage


def prepare(recipe: Recipe, data: Data, folder: Folder, listener: Listener) -> Prepared:
    """Read, learn and tokenize, or take what an earlier start of the same run made.

    Raises SettingError where the run's folder was made from other data or settings; ModelNotFound for a missing file.
    """
    for path in data.text:
        if path.is_dir() and folder.path.resolve().is_relative_to(path.resolve()):
            raise SettingError(f"{folder.path} lies in the folder of its texts, {path}; name a folder outside of it")
    tokenizer = _tokenizer(recipe, data, folder, listener)
    recipe = replace(recipe, model=replace(recipe.model, vocab=tokenizer.vocab_size))
    prompt = len(tokenizer.encode(recipe.prompt))
    if prompt >= recipe.model.context:
        raise SettingError(f"the prompt of samples has {prompt} tokens; it must be shorter than {recipe.model.context}")
    streams, proportions = _streams(recipe, data, folder, listener)
    for shards in streams.values():
        if shards.tokenizer != tokenizer.fingerprint():
            raise SettingError(
                f"{shards.folder} was written with another tokenizer ({shards.tokenizer}) than the one given "
                f"({tokenizer.fingerprint()}); give that one, or write the shards again"
            )
        with listener.stage("checking shards", "bytes") as tell:
            shards.verify(tell)
    split = {name: _split(shards, recipe.held_out) for name, shards in streams.items()}
    source = _source(recipe, {name: learnt for name, (learnt, _) in split.items()}, proportions)
    held_out = _held_out(recipe, [kept for _, kept in split.values()], tokenizer)
    parents = [("tokenizer", folder.vocabulary), *(("shards", shards.folder) for shards in streams.values())]
    return Prepared(recipe, tokenizer, source, held_out, tuple(parents))


def _held_out(recipe: Recipe, kept: list[Stream], tokenizer: Tokenizer) -> HeldOut | None:
    """What is measured, of which each part of a mixture has an equal share; None where nothing is held out."""
    shares = [Part(stream, 0, min(stream.tokens, MOST // len(kept))) for stream in kept]
    stream = Joined(shares)
    if stream.tokens < 2:
        return None
    sizes = byte_sizes(tokenizer, recipe.model.vocab)
    return HeldOut(stream, sizes, context=recipe.model.context, rows=recipe.at_once)


def _source(recipe: Recipe, streams: Mapping[str, Stream], proportions: Mapping[str, Fraction]) -> Source:
    """Batches of the one stream or of a mixture, growing where the recipe has a ramp."""
    ramp, context, seed, packing = recipe.batches(), recipe.model.context, recipe.seed, recipe.packing
    sequences = ramp.unit // context
    if len(streams) > 1:
        source: Source = Mixture(streams, proportions, context=context, sequences=sequences, seed=seed, packing=packing)
    else:
        (stream,) = streams.values()
        source = Batches(stream, context=context, sequences=sequences, seed=seed, packing=packing)
    return Ramped(source, ramp) if len(ramp.stages) > 1 else source


def _split(shards: Shards, share: float) -> tuple[Stream, Stream]:
    """What is learnt from and what is held out: documents set aside when the shards were written, or else the end."""
    aside = shards.folder / HELD_OUT
    if (aside / MANIFEST).exists():
        return shards, Shards.open(aside)
    cut = shards.tokens - int(shards.tokens * share)
    return Part(shards, 0, cut), Part(shards, cut, shards.tokens)


def _tokenizer(recipe: Recipe, data: Data, folder: Folder, listener: Listener) -> Tokenizer:
    """The one given, the one learnt before, or one learnt now; kept in the run's folder."""
    own = folder.tokenizer()
    if data.tokenizer is not None:
        given = load_tokenizer(data.tokenizer)
        if own is not None and own.fingerprint() != given.fingerprint():
            raise SettingError(
                f"{folder.path} holds a run with the tokenizer {own.fingerprint()}, and {given.fingerprint()} is asked "
                "for now; give the same, or name another folder"
            )
        made_by = lineage.compose("tokenizer", parents=[("tokenizer", data.tokenizer)])
        own = own or folder.keep_tokenizer(given, made_by)
    if own is None:
        texts = [("text", file) for file in text_files(data.text)]  # refuses what is not there
        settings = {"size": recipe.model.vocab, "learner": recipe.learner, "held_out": recipe.held_out}
        made_by = lineage.compose("tokenizer", parents=texts, settings=settings)
        listener.note(f"learning a vocabulary of {recipe.model.vocab} tokens")
        learner = learn if recipe.learner == "bpe" else learn_sentencepiece
        definition = learner(_texts(data, recipe.held_out), recipe.model.vocab)
        own = folder.keep_tokenizer(Tokenizer(definition), made_by)
    if data.tokenizer is None:
        _check_vocabulary(own, recipe, folder)
    return own


def _check_vocabulary(own: Tokenizer, recipe: Recipe, folder: Folder) -> None:
    """Refuse another size or learner than the recipe's, where the run has its own vocabulary."""
    learner = "sentencepiece" if own.kind == "spm" else "bpe"
    for what, has, wanted in (("of", own.vocab_size, recipe.model.vocab), ("learnt by", learner, recipe.learner)):
        if has != wanted:
            raise SettingError(
                f"{folder.path} holds a run with a vocabulary {what} {has}, and {wanted} is asked for now; ask for the "
                "same, or name another folder"
            )


def _texts(data: Data, share: float) -> Iterator[str]:
    for document in documents(text_files(data.text)):
        if not is_held_out(document.text, share):
            yield document.text


def _streams(
    recipe: Recipe, data: Data, folder: Folder, listener: Listener
) -> tuple[dict[str, Shards], dict[str, Fraction]]:
    """The shards by name and their proportions: those given, or the text as shards in the run's folder."""
    if not data.shards:
        return {"text": _tokenized(recipe, data, folder, listener)}, {"text": Fraction(1)}
    streams, shares = open_mix([str(word) for word in data.shards], recipe.batches().before(recipe.steps))
    for share in shares if len(shares) > 1 else ():
        listener.note(f"{share.name}: {float(share.proportion):.2%} of all tokens, {float(share.epochs):.2f} epochs")
    # by name, so that the order of all data is the same in whatever order the parts are given
    return dict(sorted(streams.items())), {share.name: share.proportion for share in shares}


def _tokenized(recipe: Recipe, data: Data, folder: Folder, listener: Listener) -> Shards:
    few = len(list(islice(documents(text_files(data.text)), _FEW))) < _FEW
    job = Job(
        texts=data.text,
        tokenizer=folder.vocabulary,
        out=folder.data,
        hold_out=0.0 if few else recipe.held_out,
        workers=data.workers,
    )
    with listener.stage("tokenizing", "bytes") as bar:
        shards = tokenize(job, lambda what, done, total: bar(done, total) if what == "tokenizing" else None)
    epochs = recipe.batches().before(recipe.steps) / shards.tokens
    listener.note(f"{shards.documents:,} documents, {shards.tokens:,} tokens; the run sees each {epochs:.2g} times")
    return shards
