"""What a server counts: requests by route, and for each answer how long its tokens took. Kept for one server.

Times are taken where events reach the event loop, so they hold what a client waits for, less the network.
"""

from __future__ import annotations

import resource
from time import perf_counter, time
from typing import Protocol

import llamero
from llamero.engine.request import Run
from llamero.engine.sampling import Choice
from llamero.engine.schedule import Standing
from llamero.interfaces.server.counts.exposition import Counter, Family, Histogram
from llamero.interfaces.server.door.asgi import App, Message, Receive, Scope, Send
from llamero.interfaces.server.worker import Listener

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
_STEPS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
_TOKENS = (1.0, 8.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 131072.0)
_MODEL = ("model",)


class Models(Protocol):
    """Of a library, what is measured when somebody looks."""

    def standings(self) -> dict[str, Standing]:
        """How each loaded model stands."""
        ...

    def memory(self) -> dict[str, int]:
        """Bytes that each loaded model is counted with."""
        ...


class Metrics:
    """One server's counts."""

    def __init__(self) -> None:
        self.requests = Counter(
            "llamero_requests_total", "Requests answered, by route, method and status.", ("route", "method", "status")
        )
        self.request_seconds = Histogram(
            "llamero_request_seconds", "From a request's headers to the end of its answer.", _SECONDS, ("route",)
        )
        self.first = Histogram(
            "llamero_time_to_first_token_seconds", "From asking to the first token of an answer.", _SECONDS, _MODEL
        )
        self.between = Histogram(
            "llamero_time_between_tokens_seconds", "From one token of an answer to the next.", _STEPS, _MODEL
        )
        self.queue = Histogram(
            "llamero_queue_seconds", "From asking to when a prompt begins to be read.", _SECONDS, _MODEL
        )
        self.whole = Histogram("llamero_answer_seconds", "From asking to the last token.", _SECONDS, _MODEL)
        self.prompt = Histogram("llamero_prompt_tokens", "Tokens of a prompt.", _TOKENS, _MODEL)
        self.written = Histogram("llamero_answer_tokens", "Tokens of an answer.", _TOKENS, _MODEL)
        self.tokens = Counter(
            "llamero_tokens_total",
            "Tokens read, found in the cache, and written; guessed ahead (drafted), and rightly (accepted).",
            ("model", "kind"),
        )
        self.answers = Counter("llamero_answers_total", "Answers ended, by why.", ("model", "reason"))
        self.loads = Counter("llamero_model_loads_total", "Models loaded, and tried in vain.", ("model", "result"))
        self.load_seconds = Histogram("llamero_model_load_seconds", "What loading a model took.", _SECONDS, _MODEL)
        self._started = time()

    def listen(self, run: Run, listener: Listener, model: str) -> Clocked:
        """The listener, with a clock."""
        return Clocked(self, run, listener, model)

    def families(self, models: Models | None = None) -> list[Family]:
        """All that is counted, now."""
        counted: list[Counter | Histogram] = [
            self.requests,
            self.request_seconds,
            self.first,
            self.between,
            self.queue,
            self.whole,
            self.prompt,
            self.written,
            self.tokens,
            self.answers,
            self.loads,
            self.load_seconds,
        ]
        gauges = _standing(models) if models else []
        return [*(one.family() for one in counted), *gauges, *self._process()]

    def _process(self) -> list[Family]:
        build = Counter("llamero_build_info", "The version that runs.", ("version",), "gauge")
        build.set(llamero.__version__, to=1)
        start = Counter("process_start_time_seconds", "When the server was started, in Unix time.", (), "gauge")
        start.set(to=self._started)
        memory = Counter("process_resident_memory_bytes", "Memory held, mapped weights included.", (), "gauge")
        memory.set(to=_resident())
        spent = Counter("process_cpu_seconds_total", "Processor time used.")
        usage = resource.getrusage(resource.RUSAGE_SELF)
        spent.set(to=usage.ru_utime + usage.ru_stime)
        return [one.family() for one in (build, start, memory, spent)]


class Counted:
    """ASGI middleware that counts requests by the route that took them."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, started = "none", perf_counter()  # none: the client left before an answer began

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = route_of(scope)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.add(route, method, status)
            self._metrics.request_seconds.observe(perf_counter() - started, route)


_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH"})


def route_of(scope: Scope) -> str:
    """The route that took a request, as it was declared; clients cannot make up new ones."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "none"


class Clocked:
    """A listener that notes when it hears what."""

    def __init__(self, metrics: Metrics, run: Run, listener: Listener, model: str) -> None:
        self._metrics, self._run, self._listener, self._model = metrics, run, listener, model
        self._asked = self._last = perf_counter()
        self._begun = self._wrote = self._over = False

    def read(self, done: int, total: int) -> None:
        self._begin()
        self._listener.read(done, total)

    def chose(self, choice: Choice, at: float) -> None:
        self._begin()
        now = perf_counter()
        if self._wrote:
            self._metrics.between.observe(now - self._last, self._model)
        else:
            self._metrics.first.observe(now - self._asked, self._model)
        self._wrote, self._last = True, now
        self._listener.chose(choice, at)

    def ended(self, error: Exception | None) -> None:
        self.cancelled("error" if error else self._run.finish_reason or "cancelled")
        self._listener.ended(error)

    def cancelled(self, reason: str) -> None:
        """Count the answer as ended, once."""
        if self._over:
            return
        self._over = True
        metrics, run, model = self._metrics, self._run, self._model
        metrics.answers.add(model, reason)
        metrics.whole.observe(perf_counter() - self._asked, model)
        metrics.prompt.observe(run.prompt_tokens, model)
        metrics.written.observe(len(run.answer), model)
        metrics.tokens.add(model, "read", by=run.read_tokens)
        metrics.tokens.add(model, "found", by=run.cached_tokens)
        metrics.tokens.add(model, "written", by=len(run.answer))
        metrics.tokens.add(model, "drafted", by=run.drafted_tokens)
        metrics.tokens.add(model, "accepted", by=run.accepted_tokens)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._metrics.queue.observe(max(0.0, self._run.began - self._asked), self._model)


def _standing(models: Models) -> list[Family]:
    runs = Counter("llamero_runs", "Answers written, prompts read, and waiting.", ("model", "state"), "gauge")
    pages = Counter("llamero_cache_pages", "Pages of the cache.", ("model", "state"), "gauge")
    hits = Counter("llamero_cache_hit_ratio", "Share of prompt tokens found in the cache.", _MODEL, "gauge")
    memory = Counter("llamero_model_memory_bytes", "Weights and cache of a loaded model.", _MODEL, "gauge")
    loaded = Counter("llamero_models_loaded", "Models that are loaded.", (), "gauge")
    for name, standing in models.standings().items():
        for state in ("writing", "reading", "waiting"):
            runs.set(name, state, to=getattr(standing, state))
        for state in ("used", "kept", "free"):
            pages.set(name, state, to=getattr(standing, f"pages_{state}"))
        prompts = standing.found_tokens + standing.read_tokens
        hits.set(name, to=standing.found_tokens / prompts if prompts else 0.0)
    counted = models.memory()
    for name, held in counted.items():
        memory.set(name, to=held)
    loaded.set(to=len(counted))
    return [one.family() for one in (runs, pages, hits, memory, loaded)]


def _resident() -> int:
    """Bytes of this process that lie in memory (Linux; elsewhere the most there ever were)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
