"""Tests of `llamero plot`: curves, pictures of each kind, a page that stands alone, and bad input."""

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from llamero.errors import SettingError
from llamero.interfaces.braille import braille
from llamero.interfaces.chart import COLOURS, chart, short, ticks
from llamero.interfaces.cli.main import main
from llamero.interfaces.curves import average, curves, names, thin
from llamero.training.journal import Journal

EVIL = "</script><img src=x onerror=alert(1)>\x1b[2J&"


@pytest.fixture
def runs(tmp_path):
    """Two runs of 200 steps: 2 + 2 / step, and half of that, the second under a hostile name."""
    folders = [tmp_path / "plain", tmp_path / re.sub("/", "", EVIL)]
    for scale, folder in zip((1.0, 0.5), folders, strict=True):
        journal = Journal(folder)
        for step in range(1, 201):
            journal.write(step, loss=scale * (2 + 2 / step), norm=math.nan, rate=step * 1e-5, tokens=512, seconds=1.8)
            if step % 100 == 0:
                journal.event("validation", step, loss=scale * 2.5)
    return folders


def test_axes(runs):
    for axis, last in (("step", 200), ("tokens", 200 * 512), ("time", 0.1)):
        ((one, other),) = curves(runs, ["loss"], axis)
        assert one.x[-1] == pytest.approx(last)
        assert one.held_out == pytest.approx(np.array([[last / 2, 2.5], [last, 2.5]]))
        np.testing.assert_array_equal(other.y, one.y / 2)
    ((cut, _),) = curves(runs, ["rate"], "tokens", skip=150)
    assert (cut.x[0], cut.y[0]) == (151 * 512, pytest.approx(1.51e-3)), "what is left out still counts on the axis"


def test_the_speed_follows_from_tokens_and_seconds(runs, capsys):
    ((curve, _),) = curves(runs, ["tokens_per_second"], "step")
    assert set(curve.y) == {512 / 1.8}
    assert main(["plot", str(runs[0]), "--y", "tokens_per_second"]) == 0
    assert "tokens_per_second 284.444" in capsys.readouterr().out


def test_runs_are_called_by_what_tells_them_apart(tmp_path):
    for place in ("a/run", "b/run"):
        (tmp_path / place).mkdir(parents=True)
    assert names([tmp_path / "a/run"]) == ["run"]
    assert names([tmp_path / "a/run", tmp_path / "b/run" / "log.jsonl"]) == ["a/run", "b/run"]


def test_averages():
    values = np.array([1.0, 5.0, math.nan, 3.0, math.inf])
    np.testing.assert_array_equal(average(values[:2], 1), values[:2])
    smooth = average(values, 3)
    assert smooth[:2] == pytest.approx([1.0, (0.5 * 1 + 1 * 5) / 1.5])
    assert np.isnan(smooth[[2, 4]]).all()
    assert smooth[3] == pytest.approx((0.25 * 1 + 0.5 * 5 + 1 * 3) / 1.75)
    assert average(np.full(50, 7.0), 10) == pytest.approx(np.full(50, 7.0))


def test_thinned_curves_keep_their_ends_and_spikes():
    x, y = np.arange(100_000.0), np.sin(np.arange(100_000) / 5000)
    y[34_567], y[70_000] = 9.0, math.nan
    points = thin(x, y, 500)
    assert len(points) <= 1002
    assert (points[0][0], points[-1][0]) == (0, 99_999)
    assert (34_567, 9.0) in points
    assert points == sorted(points)


def test_dots_are_where_the_curve_is():
    rows = braille([[(0, 0), (1, 1)]], 4, 2)
    assert ["".join(dot for dot, _ in row) for row in rows] == ["  ⡠⠊", "⡠⠊  "]
    level = braille([[(0, 5), (9, 5)]], 3, 1)
    assert "".join(dot for dot, _ in level[0]) == "⠤⠤⠤"
    apart = braille([[(0, 0), (1, math.nan), (2, 0), (3, 1)], [(0, 1)]], 2, 1)
    assert [who for _, who in apart[0]] == [1, 0]
    assert braille([[(0, math.nan)]], 2, 1) == [[(" ", -1), (" ", -1)]]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (2.31, 2.34), (-5, 70), (1e-5, 3e-3), (0, 3e12)])
def test_ticks_are_few_and_round(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 and len(short(tick)) <= 8 for tick in found)


def test_the_terminal_shows_a_small_plot(runs, capsys):
    assert main(["plot", *map(str, runs), "--y", "loss,rate"]) == 0
    text = capsys.readouterr().out
    assert "plain: loss 2.0" in text
    assert "held-out 2.5000 after 200 steps" in text
    assert "\x1b" not in text
    assert len([line for line in text.splitlines() if re.search("[\u2801-\u28ff]", line)]) > 10


def test_a_drawing_has_every_run_where_it_belongs(runs):
    fields = curves(runs, ["loss"], "step", smooth=1)
    drawn = chart(fields, "steps")
    (panel,) = drawn.panels
    strong = [shape for shape in drawn.shapes if getattr(shape, "width", 0) == 2.0]
    for curve, line in zip(fields[0], strong, strict=True):
        expected = [(panel.x(x), panel.y(y)) for x, y in zip(curve.x, curve.y, strict=True)]
        np.testing.assert_allclose(line.points, expected)
    assert panel.y(panel.high) < panel.y(panel.low), "down is larger"


def test_svg_is_sound_and_harmless(runs, tmp_path, capsys):
    path = tmp_path / "out.svg"
    assert main(["plot", *map(str, runs), "--y", "loss,rate", "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    root = ElementTree.parse(path).getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"loss", "rate", "steps", "plain"} <= set(texts)
    assert any(text.startswith("<script>") for text in texts), "the hostile name is only a text"
    assert {element.tag.partition("}")[2] for element in root.iter()} == {
        "svg", "title", "rect", "polyline", "circle", "text"
    }  # fmt: skip


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self._in = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def page(runs, path):
    assert main(["plot", *map(str, runs), "--out", str(path)]) == 0
    text = path.read_text()
    return text, Page(text)


def test_a_page_stands_alone_and_escapes_what_it_shows(runs, tmp_path):
    text, found = page(runs, tmp_path / "out.html")
    assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[\w.]+", re.sub("// .*", "", text))
    assert all(not {"src", "href", "onerror"} & attrs.keys() for _, attrs in found.tags)
    assert "img" not in {tag for tag, _ in found.tags}
    told = json.loads(found.scripts[0])
    assert [curve["run"] for curve in told["curves"][0]] == names(runs)
    assert told["curves"][0][0]["colour"] == COLOURS[0]


SCRIPT = """
const listeners = {}, made = [];
const element = () => ({style: {}, appendChild(child) { made.push(child); }, offsetWidth: 90, offsetHeight: 40});
const box = {left: 0, top: 0, width: 860, height: 400};
const picture = {getBoundingClientRect: () => box, viewBox: {baseVal: {width: 860}}};
const parts = {data: {textContent: DATA}, rule: element(), told: element()};
parts.chart = {querySelector: () => picture, addEventListener: (name, call) => { listeners[name] = call; }};
global.document = {getElementById: name => parts[name], createElement: element};
CODE
const first = data.panels[0];
listeners.pointermove({clientX: (first.x[0] + first.x[1]) / 2, clientY: first.y[0] + 20});
console.log(parts.told.textContent, "|", made.map(line => line.textContent).join("|"), "|", parts.rule.style.display);
listeners.pointermove({clientX: 1, clientY: 1});
console.log(parts.rule.style.display);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs the page's script")
def test_a_page_tells_the_values_under_the_pointer(runs, tmp_path):
    _, found = page(runs, tmp_path / "out.html")
    script = SCRIPT.replace("DATA", json.dumps(found.scripts[0])).replace("CODE", found.scripts[1])
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    shown, hidden = done.stdout.splitlines()
    value = average(np.array([2 + 2 / step for step in range(1, 101)]), 2)[-1]
    assert shown.startswith(f"100.5 steps | {value:.6g}  plain|{value / 2:.6g}  <script>")
    assert shown.endswith("| block")
    assert hidden == "none"


def test_png_shows_the_curves(runs, tmp_path):
    image_of = pytest.importorskip("PIL.Image").open
    path = tmp_path / "out.png"
    assert main(["plot", *map(str, runs), "--smooth", "1", "--out", str(path)]) == 0
    image = image_of(path).convert("RGB")
    drawn = chart(curves(runs, ["loss"], "step", smooth=1), "steps")
    assert image.size == (2 * 860, 2 * drawn.height)
    for colour, loss in ((COLOURS[0], 2 + 2 / 150), (COLOURS[1], 1 + 1 / 150)):
        place = (round(2 * drawn.panels[0].x(150)), round(2 * drawn.panels[0].y(loss)))
        wanted = tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
        assert np.abs(np.subtract(image.getpixel(place), wanted)).max() < 40


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--y", "los"], "have no 'los' (did you mean 'loss'?)"),
        (["--y", "norm"], "norm has no finite value to draw"),
        (["--y", "norm", "--out", "x.svg"], "norm has no finite value to draw"),
        (["--out", "x.pdf"], "ends in .html, .svg or .png"),
        (["--skip", "200"], "no steps after step 200"),
        (["--smooth", "-1"], "cannot be negative"),
    ],
)
def test_mistakes_are_named(runs, capsys, words, message):
    assert main(["plot", str(runs[0]), *words]) == 1
    assert message in capsys.readouterr().err


def test_what_others_wrote_into_a_journal_is_passed_over(tmp_path):
    lines = ['{"step": 1, "loss": 2, "tokens": "many", "seconds": null}', '{"step": 2, "loss": 1, "tokens": 5}']
    lines += ['{"event": "validation", "step": 2}', '{"event": "validation", "step": 2, "loss": "low"}']
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    ((curve,),) = curves([tmp_path], ["loss"], "tokens")
    assert (curve.x.tolist(), curve.y.tolist(), len(curve.held_out)) == ([0, 5], [2, 1], 0)
    assert main(["plot", str(tmp_path), "--x", "time"]) == 0


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert main(["plot", str(tmp_path)]) == 1
    assert "there is no journal of a run" in capsys.readouterr().err
    with pytest.raises(SettingError, match="did you mean 'time'"):
        curves([tmp_path], ["loss"], "times")
