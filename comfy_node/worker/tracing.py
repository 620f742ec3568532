"""Traces of the jobs that nodes run, sent to an OpenTelemetry collector.

They are off unless ComfyUI's environment names a collector in ``OTEL_EXPORTER_OTLP_ENDPOINT`` or
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``. Each job of a node is then one span. The worker, which gets
the span's ``traceparent`` with the job, puts its own spans below it if it sends traces too.

Spans leave in the JSON encoding of OTLP over HTTP, from a thread of their own: no node waits for a
collector, and one that is slow or gone costs spans only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Iterator
from functools import cache
from urllib.parse import unquote

import aiohttp

from ..texts import printable

log = logging.getLogger("ovis-worker")

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""The collector's address; the path is appended (OpenTelemetry's OTLP exporter configuration)."""
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
"""The complete address for traces, which has precedence."""
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
"""Headers of each request, such as ``name=value,other=value``."""
DISABLED = "OTEL_SDK_DISABLED"
"""Turns OpenTelemetry off when it is ``true``."""

TRACES_PATH = "/v1/traces"
SERVICE = "ovis-comfyui"
TIMEOUT_SECONDS = 5.0
"""How long one delivery may take."""
GATHER_SECONDS = 0.5
"""How long spans are gathered before they are sent together."""
WARN_SECONDS = 60.0
"""How often a failed delivery is logged at most."""
MAX_WAITING = 2048
"""Spans that wait for delivery at most; further ones are dropped."""

_KIND_CLIENT = 3  # SpanKind and StatusCode of opentelemetry/proto/trace/v1/trace.proto
_STATUS_OK = 1
_STATUS_ERROR = 2

TRACE_BYTES = 16
SPAN_BYTES = 8


class Span:
    """One job of a node, from its submission until its result has arrived."""

    def __init__(self, operation: str, node_id: str, prompt_id: str | None) -> None:
        self.trace_id = trace_of(prompt_id)
        self.span_id = secrets.token_bytes(SPAN_BYTES).hex()
        self._name = f"node {operation}"
        self._attributes = {
            "ovis.operation": operation,
            "comfyui.node_id": str(node_id),
            "comfyui.prompt_id": prompt_id,
        }
        self._began = time.time_ns()
        self._clock = time.perf_counter_ns()

    @property
    def traceparent(self) -> str:
        """What a W3C ``traceparent`` calls this span."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def ended(self, error: BaseException | None) -> dict:
        """The span, which ends now, in OTLP's JSON encoding."""
        status: dict[str, object] = {"code": _STATUS_OK}
        if error is not None:
            # The sentence may hold what the user has written.
            status = {"code": _STATUS_ERROR, "message": type(error).__name__}
        return {
            "traceId": self.trace_id,
            "spanId": self.span_id,
            "name": self._name,
            "kind": _KIND_CLIENT,
            "startTimeUnixNano": str(self._began),
            "endTimeUnixNano": str(self._began + time.perf_counter_ns() - self._clock),
            "attributes": _attributes(self._attributes),
            "status": status,
        }


def trace_of(prompt_id: str | None) -> str:
    """The trace of all nodes of one prompt; another one each time if the prompt is unknown."""
    if not prompt_id:
        return secrets.token_bytes(TRACE_BYTES).hex()
    digest = hashlib.sha256(b"ovis-worker trace of a prompt\0" + prompt_id.encode())
    return digest.digest()[:TRACE_BYTES].hex()


def _attributes(values: dict[str, str | None]) -> list[dict]:
    return [
        {"key": key, "value": {"stringValue": value}}
        for key, value in values.items()
        if value is not None
    ]


def endpoint() -> str | None:
    """The address that traces go to; ``None`` if there are to be none."""
    if os.environ.get(DISABLED, "").lower() == "true":
        return None
    base = os.environ.get(ENDPOINT)
    return os.environ.get(TRACES_ENDPOINT) or (base and base.rstrip("/") + TRACES_PATH) or None


@contextlib.contextmanager
def job_span(operation: str, node_id: str, prompt_id: str | None) -> Iterator[Span | None]:
    """The span of a job of a node, delivered when the block ends; ``None`` without a collector."""
    address = endpoint()
    if address is None:
        yield None
        return
    span = Span(operation, node_id, prompt_id)
    error: BaseException | None = None
    try:
        yield span
    except BaseException as raised:
        error = raised
        raise
    finally:
        _exporter(address).put(span.ended(error))


@cache
def _exporter(address: str) -> Exporter:
    return Exporter(address)


class Exporter:
    """Sends spans to one collector, on a thread of its own."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._waiting: queue.Queue[dict] = queue.Queue(MAX_WAITING)
        self._warned_at: float | None = None
        threading.Thread(target=self._run, name="ovis-worker traces", daemon=True).start()

    def put(self, span: dict) -> None:
        """Takes a span that has ended; drops it if too many wait."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(span)

    def _run(self) -> None:
        while True:
            spans = [self._waiting.get()]
            time.sleep(GATHER_SECONDS)
            with contextlib.suppress(queue.Empty):
                while len(spans) < MAX_WAITING:
                    spans.append(self._waiting.get_nowait())
            try:
                asyncio.run(self._send(spans))
            except Exception as error:
                self._warn(error)

    async def _send(self, spans: list[dict]) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=_headers()) as session,
            session.post(self._address, json=_request(spans)) as answer,
        ):
            answer.raise_for_status()

    def _warn(self, error: Exception) -> None:
        now = time.monotonic()
        if self._warned_at is not None and now - self._warned_at < WARN_SECONDS:
            return
        self._warned_at = now
        # Not the address, which may hold a password, and which aiohttp's texts repeat.
        status = getattr(error, "status", None)
        reason = f"it answers {status}" if status else printable(type(error).__name__)
        log.warning(
            "Traces cannot be delivered to the collector that %s or %s names (%s). "
            "Jobs are not affected.",
            TRACES_ENDPOINT,
            ENDPOINT,
            reason,
        )


def _headers() -> dict[str, str]:
    pairs = (pair.partition("=") for pair in os.environ.get(HEADERS, "").split(","))
    return {name.strip(): unquote(value.strip()) for name, equals, value in pairs if equals}


def _request(spans: list[dict]) -> dict:
    """The body of a request, ``ExportTraceServiceRequest`` in JSON."""
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes({"service.name": SERVICE})},
                "scopeSpans": [{"scope": {"name": "ovis-worker"}, "spans": spans}],
            }
        ]
    }
