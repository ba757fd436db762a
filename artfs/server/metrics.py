"""What Prometheus is told. docs/server.md lists the names.

Each process of the server counts for itself, into files below a folder that the process which started them all reads
(prometheus_client's multiprocess mode, which its environment variable turns on before this module is imported).
"""

from __future__ import annotations

from typing import Protocol


class Metrics(Protocol):
    """Called on the event loop; none of it blocks."""

    def request(self, route: str, status: int, seconds: float, received: int, sent: int) -> None: ...

    def running(self, change: int) -> None:
        """+1 at the start of a request, -1 at its end."""
        ...

    def listeners(self, count: int) -> None: ...

    def refused(self, kind: str) -> None:
        """A caller that was not let in."""
        ...


class NoMetrics:
    def request(self, route: str, status: int, seconds: float, received: int, sent: int) -> None:
        return None

    def running(self, change: int) -> None:
        return None

    def listeners(self, count: int) -> None:
        return None

    def refused(self, kind: str) -> None:
        return None


class PrometheusMetrics:
    def __init__(self) -> None:
        import prometheus_client as prometheus

        self._requests = prometheus.Counter(
            "artfs_requests", "Requests that were answered", ["route", "status"]
        )
        self._seconds = prometheus.Histogram(
            "artfs_request_seconds", "From the head of a request to the end of its answer", ["route"],
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
        )
        self._received = prometheus.Counter("artfs_received_bytes", "Bytes of bodies that came", ["route"])
        self._sent = prometheus.Counter("artfs_sent_bytes", "Bytes of bodies that went", ["route"])
        self._running = prometheus.Gauge("artfs_requests_running", "Requests under way", multiprocess_mode="livesum")
        self._listeners = prometheus.Gauge("artfs_listeners", "Open streams of events", multiprocess_mode="livesum")
        self._refused = prometheus.Counter("artfs_refused", "Callers that were not let in", ["kind"])

    def request(self, route: str, status: int, seconds: float, received: int, sent: int) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._received.labels(route).inc(received)
        self._sent.labels(route).inc(sent)

    def running(self, change: int) -> None:
        self._running.inc(change)

    def listeners(self, count: int) -> None:
        self._listeners.set(count)

    def refused(self, kind: str) -> None:
        self._refused.labels(kind).inc()
