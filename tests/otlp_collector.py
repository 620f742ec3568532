"""A collector of OpenTelemetry traces that keeps the spans it is sent.

It reads both encodings of OTLP over HTTP: the JSON of the node pack and the protobuf of the worker
(opentelemetry/proto/trace/v1/trace.proto).
"""

from __future__ import annotations

import json
import struct
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf."""


@dataclass
class Span:
    """A span as the tests look at it; times are in nanoseconds since 1970."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    attributes: dict[str, object]
    status: int
    """0 unset, 1 ok, 2 error."""
    message: str


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: bytes) -> dict[int, list]:
    """The fields of a protobuf message by number: numbers, or bytes of what has a length."""
    found: dict[int, list] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
        elif kind == BYTES:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
            assert len(value) == size, "the message is cut"
        else:
            size = {FIXED64: 8, FIXED32: 4}[kind]
            value, at = int.from_bytes(data[at : at + size], "little"), at + size
        found.setdefault(key >> 3, []).append(value)
    return found


def _attributes(pairs: list[bytes]) -> dict[str, object]:
    read = {}
    for pair in map(fields, pairs):
        ((kind, (value,)),) = fields(pair[2][0]).items()
        if kind == 1:
            value = value.decode()
        elif kind == 4:
            (value,) = struct.unpack("<d", value.to_bytes(8, "little"))
        read[pair[1][0].decode()] = value
    return read


def of_protobuf(body: bytes) -> list[Span]:
    """The spans of an ``ExportTraceServiceRequest``."""
    spans = []
    for resource_spans in map(fields, fields(body).get(1, [])):
        service = _attributes(fields(resource_spans[1][0]).get(1, []))["service.name"]
        for scope_spans in map(fields, resource_spans[2]):
            for span in map(fields, scope_spans[2]):
                status = fields(span.get(15, [b""])[0])
                spans.append(
                    Span(
                        service,
                        span[5][0].decode(),
                        span[1][0].hex(),
                        span[2][0].hex(),
                        span.get(4, [b""])[0].hex(),
                        span[7][0],
                        span[8][0],
                        _attributes(span.get(9, [])),
                        status.get(3, [0])[0],
                        status.get(2, [b""])[0].decode(),
                    )
                )
    return spans


def of_json(body: bytes) -> list[Span]:
    """The spans of an ``ExportTraceServiceRequest`` in JSON."""

    def attributes(pairs: list[dict]) -> dict[str, object]:
        return {pair["key"]: pair["value"]["stringValue"] for pair in pairs}

    return [
        Span(
            attributes(resource_spans["resource"]["attributes"])["service.name"],
            span["name"],
            span["traceId"],
            span["spanId"],
            span.get("parentSpanId", ""),
            int(span["startTimeUnixNano"]),
            int(span["endTimeUnixNano"]),
            attributes(span["attributes"]),
            span["status"]["code"],
            span["status"].get("message", ""),
        )
        for resource_spans in json.loads(body)["resourceSpans"]
        for scope_spans in resource_spans["scopeSpans"]
        for span in scope_spans["spans"]
    ]


class Collector:
    """A collector at a free port of this machine; use it as a context manager."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.requests: list[str] = []
        """The path of each request."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                is_json = self.headers["content-type"].startswith("application/json")
                collector.requests.append(self.path)
                collector.spans += of_json(body) if is_json else of_protobuf(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keeps the tests' output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Collector:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of_service(self, service: str) -> list[Span]:
        return [span for span in self.spans if span.service == service]
