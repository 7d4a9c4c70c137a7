"""Tests of training/pretraining.py and what it is made of: a run from its text to a file that speaks, and refusals."""

import json
import math
import os
import random
import resource
import shlex
import shutil
import signal

import numpy as np
import pytest
import torch

import llamero
from llamero.corpus.tokenize import Job, tokenize
from llamero.corpus.vocabulary import Lesson, learn_tokenizer
from llamero.errors import FormatError, ModelNotFound, SettingError, StorageError, WeightsError
from llamero.formats.gguf import GGUF
from llamero.formats.lineage import lineage
from llamero.formats.lineage.check import members, problems
from llamero.formats.lineage.digest import Hasher
from llamero.formats.lock import alone
from llamero.formats.shards import Shards
from llamero.tokenizer.learn import learn
from llamero.tokenizer.tokenizer import Tokenizer
from llamero.training import pretraining
from llamero.training.folder import Folder
from llamero.training.journal import read
from llamero.training.listener import Listener

SMALL = {
    "dim": 32, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 16, "ffn_dim": 48, "vocab": 300, "context": 32,
    "batch": 128, "steps": 12, "save_every": 5, "validate_every": 6, "sample_every": 6,
    "dtype": "f32",
}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    rng = random.Random(0)
    words = ["llama", "hill", "sun", "grass", "friend", "happy", "walks", "sings", "finds", "under", "the", "a"]
    told = [" ".join(rng.choices(words, k=30)).capitalize() + "." for _ in range(300)]
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(told))
    return path


class Heard(Listener):
    def __init__(self, then=None):
        self.reports, self.events, self.notes, self.begun, self.then = [], [], [], None, then

    def begin(self, settings, step):
        self.begun = (settings, step)

    def step(self, report):
        self.reports.append(report)
        if self.then:
            self.then(report)

    def event(self, name, step, values):
        self.events.append((name, step, values))

    def note(self, text):
        self.notes.append(text)


def go(text, out, heard=None, **changes):
    return llamero.train("tiny", text=text, out=out, threads=1, listener=heard, **(SMALL | changes))


def curve(out):
    return [(line["step"], line["loss"], line["norm"], line["rate"]) for line in read(out).steps]


def test_a_run_from_its_text_to_a_model(text, tmp_path):
    heard = Heard()
    path = go(text, tmp_path / "my", heard)
    assert path == tmp_path / "my" / "model.gguf"
    assert any("documents, " in note and "the run sees each 0.1" in note for note in heard.notes)
    assert [report.step for report in heard.reports] == list(range(1, 13))
    assert [(name, step) for name, step, _ in heard.events] == [
        (name, step) for step in (6, 12) for name in ("validation", "sample")
    ]
    log = read(tmp_path / "my")
    assert [line["loss"] for line in log.steps] == [report.loss for report in heard.reports]
    settings = json.loads((tmp_path / "my" / "run.json").read_text())
    assert settings["preset"] == "tiny"
    assert settings["settings"]["warmup"] == 1
    with llamero.Llama(path) as llama:
        assert llama.config.dim == 32
        assert len(llama.generate("The llama", max_tokens=5, seed=1).ids) <= 5
        ids = llama.tokenize("The happy llama sings.")
        assert llama.detokenize(ids) == "The happy llama sings."


def test_the_held_out_loss_is_that_of_the_finished_model(text, tmp_path):
    heard = Heard()
    path = go(text, tmp_path, heard, export="F32", held_out=0.2)
    ((_, _, told),) = [event for event in heard.events if event[0] == "validation" and event[1] == 12]
    held_out = Shards.open(tmp_path / "data" / "held-out")
    ids = held_out.read(0, held_out.tokens).astype(np.int64)
    nats, size = [], 0
    with llamero.Llama(path) as llama:
        for first in range(0, (len(ids) - 1) // 32 * 32, 32):
            window = ids[first : first + 33]
            logits = llama.logits(window[:-1].tolist()).astype(np.float64)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            nats += (-logits[np.arange(32), window[1:]]).tolist()
            size += len(llama.detokenize(window[1:].tolist()).encode())
    assert told["tokens"] == len(nats) > 500
    assert told["loss"] == pytest.approx(np.mean(nats), rel=1e-4)
    assert told["bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / size, rel=1e-4)


def test_samples_are_what_the_finished_model_writes(text, tmp_path):
    heard = Heard()
    path = go(text, tmp_path, heard, export="F32", prompt="The")
    sampled = [values["text"] for name, step, values in heard.events if (name, step) == ("sample", 12)]
    assert (tmp_path / "samples" / "step-00000012.txt").read_text() == sampled[0]
    with llamero.Llama(path, cache="f32") as llama:
        answer = llama.generate("The", max_tokens=64, temperature=0.8, top_p=0.95, seed=0)
    assert sampled[0] == f"The{answer.text}"


@pytest.fixture
def ctrl_c():
    """As in a terminal, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_and_the_same_call_goes_on_exactly(text, tmp_path):
    go(text, tmp_path / "straight")
    for number, at in ((signal.SIGINT, 4), (signal.SIGTERM, 9)):
        heard = Heard(lambda report, number=number, at=at: report.step == at and os.kill(os.getpid(), number))
        assert go(text, tmp_path / "stopped", heard) is None
        assert heard.reports[-1].step == at
        assert any(f"stopped and saved after step {at}" in note for note in heard.notes)
        assert not (tmp_path / "stopped" / "model.gguf").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert go(text, tmp_path / "stopped") is not None
    assert curve(tmp_path / "stopped") == curve(tmp_path / "straight")
    assert [e["loss"] for e in read(tmp_path / "stopped").events if e["event"] == "validation"] == [
        e["loss"] for e in read(tmp_path / "straight").events if e["event"] == "validation"
    ]


def test_a_ramp_is_gone_through_and_gone_on_with(text, tmp_path):
    ramp = {"ramp": "0:32@16,100:64@32,250:128"}
    go(text, tmp_path / "straight", **ramp)
    assert [line["tokens"] for line in read(tmp_path / "straight").steps] == [32] * 4 + [64] * 2 + [128] * 6
    go(text, tmp_path / "stopped", **ramp, until=5)
    go(text, tmp_path / "stopped", **ramp)
    assert curve(tmp_path / "stopped") == curve(tmp_path / "straight")
    with pytest.raises(SettingError, match="ramp"):
        go(text, tmp_path / "stopped", ramp="0:64@32,250:128")


def test_z_loss_and_recompute_reach_the_objective(text, tmp_path):
    go(text, tmp_path / "plain", until=3)
    go(text, tmp_path / "again", until=3, recompute=1)
    assert curve(tmp_path / "again") == curve(tmp_path / "plain")
    go(text, tmp_path / "z", until=3, z_loss=0.01)
    assert curve(tmp_path / "z")[0][1] == pytest.approx(curve(tmp_path / "plain")[0][1], rel=1e-5)
    assert abs(curve(tmp_path / "z")[2][1] - curve(tmp_path / "plain")[2][1]) > 1e-4


def test_a_full_disk_leaves_the_checkpoints_before_and_the_run_goes_on(text, tmp_path):
    go(text, tmp_path / "straight")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = Heard(lambda report: report.step == 7 and resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard)))
    try:
        with pytest.raises(StorageError, match=r"step-00000010 could not be saved.*File too large"):
            go(text, tmp_path / "full", full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "full" / "checkpoints").iterdir()] == ["step-00000005"]
    heard = Heard()
    assert go(text, tmp_path / "full", heard) is not None
    assert heard.reports[0].step == 6
    assert curve(tmp_path / "full") == curve(tmp_path / "straight")


def test_another_split_of_batches_goes_on_within_rounding(text, tmp_path):
    go(text, tmp_path / "straight")
    for until, micro in ((4, 1), (8, 3), (None, 2)):
        go(text, tmp_path / "split", until=until, micro=micro)
    for ours, theirs in zip(curve(tmp_path / "straight"), curve(tmp_path / "split"), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-5)
        assert ours[1] == pytest.approx(theirs[1], rel=1e-6)


def test_the_arithmetic_is_chosen_once(text, tmp_path, monkeypatch):
    for first, later in ((torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)):
        chosen = {"auto": first, "bf16": torch.bfloat16, "f32": torch.float32}
        monkeypatch.setattr(pretraining, "dtype_of", lambda precision, _device="cpu", chosen=chosen: chosen[precision])
        out = tmp_path / str(first)
        go(text, out, until=3, dtype="auto")
        chosen["auto"] = later
        go(text, out, until=6, dtype="auto")
        settings = json.loads((out / "run.json").read_text())["settings"]
        assert settings["dtype"] == ("bf16" if first == torch.bfloat16 else "f32")


def test_until_stops_and_a_finished_run_is_only_written_again(text, tmp_path):
    assert go(text, tmp_path, until=7) is None
    assert len(curve(tmp_path)) == 7
    path = go(text, tmp_path)
    before = path.read_bytes()
    heard = Heard()
    assert go(text, tmp_path, heard) == path
    assert heard.reports == []
    assert path.read_bytes() == before


def test_a_changed_horizon_is_refused_unless_allowed(text, tmp_path):
    go(text, tmp_path, until=5)
    with pytest.raises(SettingError, match=r"schedule\.steps 12, and 20"):
        go(text, tmp_path, steps=20)
    heard = Heard()
    assert go(text, tmp_path, heard, steps=20, allow_change="schedule.steps") is not None
    assert heard.reports[0].step == 6
    assert heard.reports[-1].step == 20
    go(text, tmp_path / "wsd", until=5, schedule="wsd")
    assert go(text, tmp_path / "wsd", schedule="wsd", steps=20, allow_change=["steps"]) is not None


def test_a_setting_that_only_the_run_before_has_may_change(text, tmp_path):
    go(text, tmp_path, until=5, schedule="wsd", ramp="0:64,256:128")
    changes = ["schedule", "ramp"]
    with pytest.raises(SettingError, match=r"let it change with `--allow-change schedule\.decay`"):
        go(text, tmp_path, allow_change=changes)
    heard = Heard()
    assert go(text, tmp_path, heard, allow_change=[*changes, "schedule.decay", "floor"]) is not None
    assert heard.reports[0].step == 6


def test_what_may_change_is_called_as_its_flag_is(text, tmp_path):
    go(text, tmp_path, until=5)
    changes = {"rate": 1e-4, "batch": 64, "optimizer": "muon"}
    assert go(text, tmp_path, allow_change=list(changes), **changes) is not None


def test_changed_text_is_refused(text, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text(text.read_text())
    go(mine, tmp_path / "run", until=5)
    mine.write_text(text.read_text() + "\nOne more line.")
    with pytest.raises(SettingError, match=r"other texts.*mine\.txt: SHA-256 [0-9a-f]{64}, then [0-9a-f]{64}"):
        go(mine, tmp_path / "run")
    mine.write_text(text.read_text())
    with pytest.raises(SettingError, match="hold_out"):
        go(mine, tmp_path / "run", held_out=0.1)
    with pytest.raises(SettingError, match="vocabulary of 300, and 310"):
        go(mine, tmp_path / "run", vocab=310)
    with pytest.raises(SettingError, match="learnt by bpe, and sentencepiece is asked for"):
        go(mine, tmp_path / "run", learner="sentencepiece")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["learner"] == "bpe"


def test_shards_with_their_tokenizer(text, tmp_path):
    go(text, tmp_path / "first")
    tokenizer = tmp_path / "first" / "tokenizer.gguf"
    shards = tokenize(Job((text,), tokenizer, tmp_path / "shards"))
    options = {name: value for name, value in SMALL.items() if name != "vocab"} | {"threads": 1, "until": 5}
    given = {"shards": tmp_path / "shards", "tokenizer": tokenizer, "out": tmp_path / "run"}
    llamero.train("tiny", **given, **options)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["vocab"] == 300
    assert [e["event"] for e in read(tmp_path / "run").events] == []

    other = tmp_path / "other.txt"
    other.write_text(text.read_text()[::-1])
    changed = tokenize(Job((other,), tokenizer, tmp_path / "changed"))
    assert changed.fingerprint != shards.fingerprint
    shutil.rmtree(tmp_path / "shards")
    (tmp_path / "changed").rename(tmp_path / "shards")
    with pytest.raises(SettingError, match=r"data '[0-9a-f]{64}.*', and '[0-9a-f]{64}.*'"):
        llamero.train("tiny", **given, **options)
    tokenize(Job((text,), tokenizer, tmp_path / "more"))
    mixed = [f"{tmp_path / 'shards'}=0.25", f"{tmp_path / 'more'}=0.75"]
    llamero.train("tiny", **given | {"shards": mixed, "out": tmp_path / "mixed"}, **options)
    data = json.loads((tmp_path / "mixed" / "run.json").read_text())["data"]
    assert (data["mix.shards"], data["mix.more"]) == ("1/4", "3/4")
    llamero.train("tiny", **given | {"shards": mixed[::-1], "out": tmp_path / "turned"}, **options)
    assert curve(tmp_path / "turned") == curve(tmp_path / "mixed"), "in whatever order the parts are named"
    with pytest.raises(SettingError, match="another tokenizer"):
        llamero.train("tiny", **given | {"tokenizer": _other(tmp_path), "out": tmp_path / "third"}, **options)
    with pytest.raises(SettingError, match="--tokenizer"):
        llamero.train("tiny", shards=tmp_path / "shards", out=tmp_path / "fourth", **options)


def _other(tmp_path):
    folder = Folder(tmp_path / "tokenizer")
    folder.keep_tokenizer(Tokenizer(learn(["a b c d e f g h"], 262)))
    return folder.path / "tokenizer.gguf"


def test_a_shard_with_an_id_beyond_the_vocabulary_is_refused(text, tmp_path):
    go(text, tmp_path, until=5)
    shard = tmp_path / "data" / "00000.shard"
    raw = bytearray(shard.read_bytes())
    raw[128:130] = (300).to_bytes(2, "little")
    shard.write_bytes(raw)
    with pytest.raises(FormatError, match=r"00000\.shard.*(300|hash)"):
        go(text, tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"stepz": 3}, SettingError, "did you mean 'steps'"),
        ({"export": "Q8_0", "ffn_dim": 40}, FormatError, "40"),
        ({"prompt": "The llama sings. " * 20}, SettingError, "prompt of samples"),
        ({"device": "nowhere"}, ValueError, "nowhere"),
        ({"allow_change": ["lerning"]}, SettingError, "no setting of this run"),
        ({"text": ()}, SettingError, "--text or --shards"),
        ({"text": "nowhere.txt"}, ModelNotFound, "nowhere.txt"),
        ({"tokenizer": "nowhere.json"}, ModelNotFound, "nowhere.json"),
    ],
)
def test_contradictions_are_refused(text, tmp_path, changes, error, words):
    options = {"text": text, "out": tmp_path / "run", "threads": 1} | SMALL | changes
    if changes.get("device"):
        error = llamero.DeviceError
    with pytest.raises(error, match=words):
        llamero.train("tiny", **options)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_last_words_are_a_command_for_any_names(text, tmp_path, monkeypatch):
    heard = Heard()
    path = go(text, tmp_path / "my run's \u00e4", heard, prompt="It's $HOME", steps=2)
    words = shlex.split(heard.notes[-1].partition("speaks with: ")[2])
    assert words == ["llamero", "run", "-m", str(path), "It's $HOME"]
    monkeypatch.chdir(path.parent)
    assert GGUF.open(go(text, ".", prompt="It's $HOME", steps=2)).metadata["general.name"] == "my run's \u00e4"


def test_a_run_inside_its_folder_of_texts_is_refused(text, tmp_path):
    """Its samples and its journal would be read as texts when it goes on."""
    (tmp_path / "texts").mkdir()
    shutil.copy(text, tmp_path / "texts")
    with pytest.raises(SettingError, match="lies in the folder of its texts"):
        go(tmp_path / "texts", tmp_path / "texts" / "run")
    assert go(tmp_path / "texts", tmp_path / "run", until=3) is None


def test_a_folder_holds_one_kind_of_artefact(text, tmp_path):
    """A second one would write its lineage over that of the first."""
    go(text, tmp_path / "run", until=3)
    vocabulary = tmp_path / "run" / "tokenizer.gguf"
    with pytest.raises(SettingError, match="kind 'run'"):
        tokenize(Job(texts=(text,), tokenizer=vocabulary, out=tmp_path / "run"))
    with pytest.raises(SettingError, match="kind 'run'"):
        learn_tokenizer(Lesson(texts=(text,), out=tmp_path / "run", size=300))
    tokenize(Job(texts=(text,), tokenizer=vocabulary, out=tmp_path / "shards"))
    with pytest.raises(SettingError, match="kind 'shards'"):
        go(text, tmp_path / "shards")
    assert lineage.read(tmp_path / "run").record.kind == "run"


def test_names_without_unicode(text, tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9.txt")
    shutil.copy(text, odd)
    path = go(odd, tmp_path / os.fsdecode(b"r\xe9"), steps=2)
    assert GGUF.open(path).metadata["general.name"] == "r\\udce9"
    assert go(odd, path.parent, steps=2) == path


def test_a_run_that_blew_up_says_so_where_it_would_sample(text, tmp_path):
    with pytest.raises(WeightsError, match=r"step 6: .* blew up; .* lower rate"):
        go(text, tmp_path, rate=1e9)


def test_two_processes_do_not_write_one_run(text, tmp_path):
    go(text, tmp_path / "run", until=3)
    with alone(tmp_path / "run"), pytest.raises(SettingError, match="run is being written by another process"):
        go(text, tmp_path / "run")
    assert len(curve(tmp_path / "run")) == 3
    assert go(text, tmp_path / "run") is not None


def test_a_file_where_the_folder_should_be_is_refused(text, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(SettingError, match="is a file"):
        go(text, tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_skipped_batches_are_logged_with_their_documents(text, tmp_path):
    heard = Heard()
    go(text, tmp_path, heard, steps=80, rate=1e-7, spread=0.01, patience=1000, validate_every=0)
    skipped = [values for name, _, values in heard.events if name == "skipped"]
    assert skipped
    assert all(values["documents"] and "deviations above" in values["reason"] for values in skipped)
    assert sum(bool(line["skipped"]) for line in read(tmp_path).steps) == len(skipped)


def test_a_text_of_one_document_has_its_end_held_out(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(" ".join(f"word{i % 50} follows number {i % 7}" for i in range(3000)))
    heard = Heard()
    go(path, tmp_path / "run", heard, held_out=0.1)
    assert [step for name, step, _ in heard.events if name == "validation"] == [6, 12]
    assert go(path, tmp_path / "none", heard2 := Heard(), held_out=0.0) is not None
    assert not [name for name, _, _ in heard2.events if name == "validation"]


def test_the_model_knows_its_family(text, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text(text.read_text())
    lineage.record(mine, kind="source", licences=["CC0"])
    path = go(mine, tmp_path / "run")
    found = lineage.read(path)
    assert [(parent.role, parent.name) for parent in found.record.parents] == [
        ("checkpoint", "step-00000012"), ("tokenizer", "tokenizer.gguf")
    ]  # fmt: skip
    family = list(members(found, Hasher()))
    assert {member.state for member in family} == {"unchanged"}
    assert {member.parent.role for member in family} == {"checkpoint", "tokenizer", "shards", "text"}
    assert {member.record.kind for member in family} == {"checkpoint", "tokenizer", "shards", "source"}
    run = lineage.read(tmp_path / "run")
    assert (run.record.kind, run.record.settings["preset"], run.record.settings["dim"]) == ("run", "tiny", 32)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000012"
    saved = lineage.read(checkpoint)
    assert (saved.record.name, saved.record.settings["step"]) == ("step-00000012", 12)
    assert problems(checkpoint, saved.record, Hasher()) == []
    (checkpoint / "manifest.json").write_text("{}")
    assert "changed" in {member.state for member in members(found, Hasher())}
