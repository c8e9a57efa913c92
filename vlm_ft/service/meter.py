"""`Meter`: what Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Meter:
    """Counts answers, refusals and requests in progress, and times answers."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.answers = Counter("vlm_ft_answers", "Answers.", ["adapter", "decision"], registry=registry)
        self.refused = Counter("vlm_ft_refused", "Requests without an answer.", ["reason"], registry=registry)
        self.inside = Gauge("vlm_ft_in_progress", "Requests for answers in progress.", registry=registry)
        self.seconds = Histogram("vlm_ft_seconds", "Seconds per call of the engine.", registry=registry)

    def text(self) -> bytes:
        """All metrics, in Prometheus' format."""
        return generate_latest(self._registry)
