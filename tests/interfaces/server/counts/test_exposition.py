"""The text that Prometheus reads, as its own parser reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse

from llamero.interfaces.server.counts.exposition import Counter, Histogram, render, together


def test_every_kind_survives_the_parser() -> None:
    counter = Counter("x_total", "What\nit \\ is", ("model", "status"))
    counter.add('odd "name"\\ \n', "200")
    counter.add('odd "name"\\ \n', "200", by=2.5)
    gauge = Counter("y", "A gauge.", (), "gauge")
    gauge.set(to=-1e-9)
    times = Histogram("z_seconds", "Times.", (0.1, 1.0), ("model",))
    for value in (0.05, 0.1, 0.5, 3.0):
        times.observe(value, "a")
    families = {one.name: one for one in parse(render([counter.family(), gauge.family(), times.family()]))}
    (sample,) = families["x"].samples
    assert (sample.labels, sample.value) == ({"model": 'odd "name"\\ \n', "status": "200"}, 3.5)
    assert families["x"].documentation == "What\nit \\ is"
    assert families["y"].samples[0].value == -1e-9
    buckets = {s.labels["le"]: s.value for s in families["z_seconds"].samples if s.name.endswith("_bucket")}
    assert buckets == {"0.1": 2, "1": 3, "+Inf": 4}
    rest = {s.name: s.value for s in families["z_seconds"].samples if not s.name.endswith("_bucket")}
    assert rest == {"z_seconds_sum": 3.65, "z_seconds_count": 4}


def test_sources_together() -> None:
    parts = []
    for index in ("0", "1"):
        counter = Counter("x_total", "What.", ("model",))
        counter.add("a", by=int(index) + 1)
        parts.append((index, [counter.family()]))
    (family,) = parse(render(together(parts, "replica")))
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"replica": "0", "model": "a"}, 1),
        ({"replica": "1", "model": "a"}, 2),
    ]
