"""Tests of corpus/tokenize.py: the set depends on texts and settings alone, and a stop anywhere costs nothing of it."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import llamero
from llamero.corpus import tokenize as module
from llamero.corpus.held_out import is_held_out
from llamero.corpus.tokenize import HELD_OUT, Job, tokenize
from llamero.errors import FormatError, ModelNotFound, SettingError
from llamero.formats.lineage import lineage
from llamero.formats.shards import Shards
from llamero.tokenizer.load import load_tokenizer

TOKENIZER = Path(llamero.__file__).parent / "embedded" / "llama-stories.gguf"


@pytest.fixture
def texts():
    rng = np.random.default_rng(0)
    words = ["llama", "sang", "to", "the", "moon", "and", "a", "small", "dog", "was", "happy", "with", "cake"]
    return [" ".join(rng.choice(words, rng.integers(3, 40))) + f" {number}." for number in range(300)]


@pytest.fixture
def job(tmp_path, texts):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts[:100]))
    (tmp_path / "b.txt").write_text("\n<|endoftext|>\n".join(texts[100:]))
    paths = (tmp_path / "a.jsonl", tmp_path / "b.txt")
    return Job(texts=paths, tokenizer=TOKENIZER, out=tmp_path / "out", hold_out=0.1, shard=500)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 400)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lineage.json"
    }


def stream(shards):
    ids, starts = shards.read(0, shards.tokens), shards.borders(0, shards.tokens)
    return [part.tolist() for part in np.split(ids, starts[1:])]


def test_documents_are_begun_and_ended_and_kept_in_order(job, texts):
    told = []
    shards = tokenize(job, lambda *each: told.append(each))
    tokenizer = load_tokenizer(TOKENIZER)
    held = [text for text in texts if is_held_out(text, 0.1)]
    assert 10 < len(held) < 60
    wanted = [tokenizer.encode_document(text).tolist() for text in texts if text not in held]
    assert stream(shards) == wanted
    assert wanted[0][0] == tokenizer.bos_id
    assert wanted[0][-1] == tokenizer.end_id
    assert stream(Shards.open(job.out / HELD_OUT)) == [tokenizer.encode_document(text).tolist() for text in held]
    assert shards.tokenizer == tokenizer.fingerprint()
    assert shards.vocabulary == tokenizer.vocab_size
    assert shards.about["documents"] == [100, 200]
    assert len(shards.headers) > 5
    shards.verify()
    sizes = sum(path.stat().st_size for path in job.texts)
    assert told[-1] == ("tokenizing", sizes, sizes)
    assert {what for what, *_ in told} == {"hashing", "tokenizing"}


@pytest.mark.usefixtures("small_batches")
def test_workers_make_no_difference(job, tmp_path):
    tokenize(job)
    tokenize(dataclasses.replace(job, out=tmp_path / "other", workers=3))
    assert contents(tmp_path / "other") == contents(job.out)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("stop", [1, 7, 40, 62])
def test_a_stopped_job_goes_on(job, tmp_path, monkeypatch, stop):
    tokenize(job)
    again = dataclasses.replace(job, out=tmp_path / "other")
    encode = module.encoded

    def stopping(*args):
        for number, each in enumerate(encode(*args)):
            if number == stop:
                raise KeyboardInterrupt
            yield each

    monkeypatch.setattr(module, "encoded", stopping)
    with pytest.raises(KeyboardInterrupt):
        tokenize(again)
    with pytest.raises(ModelNotFound):
        Shards.open(again.out)
    monkeypatch.setattr(module, "encoded", encode)
    tokenize(again)
    assert contents(again.out) == contents(job.out)


def test_a_whole_set_is_not_made_again(job, monkeypatch):
    first = tokenize(job).fingerprint
    monkeypatch.setattr(module, "_write", None)
    assert tokenize(job).fingerprint == first


def test_other_texts_or_settings_are_refused(job):
    tokenize(job)
    with pytest.raises(SettingError, match=r"with hold_out 0\.1, now 0\.2"):
        tokenize(dataclasses.replace(job, hold_out=0.2))
    with pytest.raises(SettingError, match="other texts"):
        tokenize(dataclasses.replace(job, texts=job.texts[:1]))
    (job.out.parent / "b.txt").write_text("changed")
    with pytest.raises(SettingError, match=r"b\.txt: SHA-256 [0-9a-f]{64}, then [0-9a-f]{64}"):
        tokenize(job)
    (job.out / "shards.json").unlink()
    with pytest.raises(SettingError, match="nobody noted"):
        tokenize(job)


def test_bad_jobs_are_refused(job, tmp_path):
    with pytest.raises(SettingError, match="from 0 to 1"):
        tokenize(dataclasses.replace(job, hold_out=1.0))
    with pytest.raises(SettingError, match="at least one worker"):
        tokenize(dataclasses.replace(job, workers=0, out=tmp_path / "w"))
    (tmp_path / "blank.txt").write_text("\n\n")
    with pytest.raises(SettingError, match="no documents"):
        tokenize(dataclasses.replace(job, texts=(tmp_path / "blank.txt",), out=tmp_path / "x"))
    (tmp_path / "bad.jsonl").write_text("{")
    for workers in (1, 2):
        with pytest.raises(FormatError, match=r"bad\.jsonl, line 1"):
            tokenize(dataclasses.replace(job, texts=(tmp_path / "bad.jsonl",), out=tmp_path / "y", workers=workers))


def test_lineage_names_texts_and_tokenizer(job):
    tokenize(job)
    for folder in (job.out, job.out / HELD_OUT):
        found = lineage.read(folder)
        assert found is not None
        assert [(parent.role, parent.name) for parent in found.record.parents] == [
            ("text", "a.jsonl"),
            ("text", "b.txt"),
            ("tokenizer", "llama-stories.gguf"),
        ]


def test_held_out_documents_are_the_right_share_and_stay_so(texts):
    many = [f"{text} {n}" for n in range(40) for text in texts]
    small, large = ({text for text in many if is_held_out(text, share)} for share in (0.01, 0.05))
    assert small < large
    assert len(large) / len(many) == pytest.approx(0.05, abs=0.01)
    assert not any(is_held_out(text, 0.0) for text in many)


@pytest.mark.usefixtures("small_batches")
def test_a_killed_process_goes_on(job, tmp_path):
    """kill -9 at whatever the moment is, twice, then once to the end."""
    tokenize(job)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(job=dataclasses.replace(job, out=tmp_path / "other")))
    for shards in (3, 9):
        with subprocess.Popen([sys.executable, str(program), "0.02"]) as process:
            while len(list((tmp_path / "other").glob("0*.shard"))) < shards:
                assert process.poll() is None
                time.sleep(0.005)
            process.kill()
    left = {path.name for path in (tmp_path / "other").iterdir()}
    assert "shards.json" not in left
    subprocess.run([sys.executable, str(program), "0"], check=True)
    assert contents(tmp_path / "other") == contents(job.out)


def test_processes_that_ask_for_the_same_set_make_it_once(job, tmp_path):
    """As the ranks of a run do."""
    tokenize(job)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(job=dataclasses.replace(job, out=tmp_path / "other")))
    ranks = [subprocess.Popen([sys.executable, str(program), "0.002"]) for _ in range(3)]
    assert [rank.wait() for rank in ranks] == [0, 0, 0]
    assert contents(tmp_path / "other") == contents(job.out)


PROGRAM = """
import sys, time
from pathlib import Path, PosixPath, WindowsPath
from llamero.corpus import tokenize as module
from llamero.corpus.tokenize import Job

module._BATCH = 400
encode = module.encoded

def slowly(*args):
    for each in encode(*args):
        time.sleep(float(sys.argv[1]))
        yield each

module.encoded = slowly
module.tokenize({job!r})
"""
