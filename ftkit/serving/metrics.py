"""What a server counts, in Prometheus' form: requests by route and status, their time, and what the engine has done.

metrics = Metrics(batcher); app.add_middleware(Measured, metrics=metrics); metrics.text()
"""

import importlib.util
import time
from collections.abc import Iterator
from typing import Any

from ftkit.config.errors import UserError
from ftkit.serving.refusals import Message, Receive, Send

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)  # upper ends of the histogram's parts
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
OTHER = "other"  # methods, and paths that are no route: whoever asks for many of them must not fill the memory
GONE = 499  # the client went away before the answer began, as nginx has it
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GAUGES = {  # of the engine's Stats
    "running": "Answers that are being written",
    "waiting": "Requests that wait for a place",
    "cache_bytes": "Keys and values kept for prompts that begin alike",
}
COUNTERS = {
    "prompt_tokens": "Tokens of prompts",
    "cached_prompt_tokens": "Tokens of prompts that were not computed again",
    "generated_tokens": "Tokens of answers",
}


class Metrics:
    """The counts of one server, in a registry of its own."""

    def __init__(self, batcher: Any):
        check_installed()
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.batcher, self.registry = batcher, CollectorRegistry(auto_describe=False)
        labels, registry = ("method", "route", "status"), self.registry
        self.requests = Counter("ftkit_requests", "Requests that were answered", labels, registry=registry)
        self.seconds = Histogram(
            "ftkit_request_seconds", "Time to the end of an answer", ("route",), buckets=SECONDS, registry=registry
        )
        self.first = Histogram(
            "ftkit_first_byte_seconds", "Time to the first part of an answer", ("route",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.registry.register(self)

    def collect(self) -> Iterator:
        """What the engine has done by now (called by the registry)."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        stats = self.batcher.stats()
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(f"ftkit_{name}", meaning, getattr(stats, name))
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"ftkit_{name}", meaning, getattr(stats, name))
        share = stats.cached_prompt_tokens / max(1, stats.prompt_tokens)
        yield GaugeMetricFamily("ftkit_prefix_hit_rate", "Share of prompts' tokens that were not computed again", share)
        finished = CounterMetricFamily("ftkit_answers", "Answers that ended, by reason", labels=["finish_reason"])
        for reason, count in dict(stats.finished).items():
            finished.add_metric([reason], count)
        yield finished
        registry = self.batcher.registry
        described = registry.described()
        yield GaugeMetricFamily("ftkit_models", "Base and adapters that can be asked", len(described))
        resident = sum(one["resident"] for one in described)
        yield GaugeMetricFamily("ftkit_models_resident", "Those of them that are in memory", resident)
        rate = 1 - registry.num_reads / max(1, registry.num_pins)
        yield GaugeMetricFamily("ftkit_adapter_hit_rate", "Share of requests whose adapter was in memory", rate)

    def text(self) -> bytes:
        """All counts, as Prometheus reads them."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


def check_installed() -> None:
    """Raise UserError without the package that counts."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise UserError("/metrics needs prometheus_client; pip install 'ftkit[serve]'")


class Measured:
    """An ASGI app around another one, which counts its requests."""

    def __init__(self, app, *, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, first = time.perf_counter(), 0, None

        async def send_measured(message: Message) -> None:
            nonlocal status, first
            status = message.get("status", status)
            if first is None and message["type"] == "http.response.body":
                first = time.perf_counter() - start
            await send(message)

        try:
            await self.app(scope, receive, send_measured)
        finally:
            route = getattr(scope.get("route"), "path", OTHER)
            method = scope["method"] if scope["method"] in METHODS else OTHER
            self.metrics.requests.labels(method, route, str(status or GONE)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)
            if first is not None:
                self.metrics.first.labels(route).observe(first)
