"""What the server counts, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sprout.engine import Completion

FIRST = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)  # seconds; bounds of the histogram


class Metrics:
    """All figures of one server."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self.requests = Counter("sprout_requests", "Answered requests.", ("route", "status"), registry=r)
        self.running = Gauge("sprout_running", "Replies that are being written.", registry=r)
        self.queued = Gauge("sprout_queued", "Requests that wait for a row.", registry=r)
        self.cancelled = Counter("sprout_cancelled", "Replies given up because nobody read on.", registry=r)
        self.tokens_in = Counter("sprout_prompt_tokens", "Tokens of prompts.", registry=r)
        self.reused = Counter(
            "sprout_prompt_tokens_reused", "Tokens of prompts that were known from earlier.", registry=r
        )
        self.tokens_out = Counter("sprout_completion_tokens", "Tokens that the models chose.", registry=r)
        self.first = Histogram(
            "sprout_first_token_seconds", "From request to first text, streams.", buckets=FIRST, registry=r
        )
        self.rate = Gauge("sprout_tokens_per_second", "Tokens chosen a second, lately.", registry=r)

    def finished(self, completion: Completion) -> None:
        """A reply is complete."""
        self.tokens_in.inc(len(completion.prompt_ids))
        self.reused.inc(completion.cached)
        self.tokens_out.inc(sum(completion.sampled))

    def text(self) -> bytes:
        """The page that Prometheus fetches."""
        return generate_latest(self.registry)
