"""What /metrics counts, for Prometheus."""

import time
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.registry import CollectorRegistry
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Other sites may not embed answers, browsers may not guess their type, and nothing is cached.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Monitoring:
    """The counters of one server.

    Attributes:
        waiting: Requests that are read or wait for their predictions.
        images: Classified images by label.
        failed_images: Uploads that were not readable as a picture.
        batch_size: Images per call of the network.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory and CPU time
        names: dict[str, Any] = {"namespace": "pytorch_intro", "registry": self.registry}
        self.requests = Counter("requests", "Answered requests.", ["path", "status"], **names)
        self.seconds = Histogram("request_seconds", "Time to answer a request.", ["path"], **names)
        self.waiting = Gauge("requests_waiting", "Requests in progress.", **names)
        self.images = Counter("images", "Classified images.", ["label"], **names)
        self.failed_images = Counter("failed_images", "Uploads that are no readable picture.", **names)
        buckets = [1, 2, 4, 8, 16, 32, 64, 128, 256]
        self.batch_size = Histogram("batch_size", "Images per call of the network.", buckets=buckets, **names)

    def text(self) -> bytes:
        """Return all counters in Prometheus's text format."""
        return generate_latest(self.registry)


class MonitoringMiddleware:
    """Counts and times each request, and adds HEADERS to its answer."""

    def __init__(self, app: ASGIApp, monitoring: Monitoring) -> None:
        self.app = app
        self.monitoring = monitoring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            path = getattr(scope.get("route"), "path", "other")  # anybody can make up other paths
            self.monitoring.requests.labels(path, str(status)).inc()
            self.monitoring.seconds.labels(path).observe(time.perf_counter() - start)
