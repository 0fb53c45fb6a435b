"""Traces by OpenTelemetry, where operators want them: a span for each decision, and one for the store in it.

Spans are made when decisions are written down, in batches, and sent by a thread of the library's own: a
request pays for none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from proxy.asgi import TRACE_PARENT, App, Receive, Scope, Send
from proxy.audit import Decision
from proxy.errors import InvalidSettings
from proxy.upstream.headers import Base

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

NS: Final = 1_000_000_000
LONGEST_PARENT: Final = 128


class TraceSettings(BaseModel):
    """Where traces are sent: the URL that takes OTLP over HTTP, `…/v1/traces`. `ratio`: how many of the
    requests are traced whose callers do not say. `headers_file`: lines `name: value` to send along."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = None
    ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    headers_file: Path | None = None

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            Base.of(value.partition("?")[0])
        return value


class Tracer:
    """Makes spans of decisions."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("tams")
        self._propagator = TraceContextTextMapPropagator()

    def take(self, decisions: Iterable[Decision]) -> None:
        """A span for each decision, below the one that its caller named."""
        for decision in decisions:
            self._span(decision)

    def _span(self, decision: Decision) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        parent = self._propagator.extract({"traceparent": decision.trace_parent or ""})
        operation = "none" if decision.rule is None else decision.rule.operation
        start_ns = int(decision.time_s * NS)
        attributes: dict[str, str | int] = {
            "http.request.method": decision.method,
            "http.response.status_code": decision.status,
            "url.path": decision.path,
            "enduser.id": decision.principal,
            "tams.operation": operation,
            "tams.verdict": decision.verdict,
            "tams.request_id": decision.request_id,
        }
        span = self._tracer.start_span(
            operation, parent, kind=SpanKind.SERVER, attributes=attributes, start_time=start_ns
        )
        if decision.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if decision.calls:
            asked_ns = start_ns + max(0, decision.asked_ns - decision.began_ns)
            inner = self._tracer.start_span(
                "store",
                set_span_in_context(span),
                kind=SpanKind.CLIENT,
                attributes={"tams.store_calls": decision.calls},
                start_time=asked_ns,
            )
            inner.end(asked_ns + decision.store_ns)
        span.end(start_ns + max(0, decision.ended_ns - decision.began_ns))


class Traced:
    """An application whose requests bring along whose part they are (W3C Trace Context)."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        for name, value in scope.get("headers", ()):
            if name == b"traceparent" and len(value) <= LONGEST_PARENT:
                scope[TRACE_PARENT] = value.decode("latin-1")
        await self._app(scope, receive, send)


@asynccontextmanager
async def tracing(settings: TraceSettings, service: str, version: str) -> AsyncIterator[Tracer | None]:
    """What makes traces, for as long as the context lasts; None where nobody wants any. Raises
    `InvalidSettings`."""
    if settings.endpoint is None:
        yield None
        return
    provider = _provider(settings, service, version)
    try:
        yield Tracer(provider)
    finally:
        # It sends what it still has, and waits for that.
        await asyncio.to_thread(provider.shutdown)


def _provider(settings: TraceSettings, service: str, version: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as exc:
        raise InvalidSettings(["traces need the extra `traces`: pip install tams-proxy[traces]"]) from exc
    resource = Resource.create({"service.name": service, "service.version": version})
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(settings.ratio)))
    exporter = OTLPSpanExporter(endpoint=settings.endpoint, headers=_headers(settings.headers_file))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _headers(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSettings([f"TAMS_TRACES__HEADERS_FILE: {exc}"]) from exc
    pairs = [line.partition(":") for line in lines]
    if not all(colon and name.strip() for name, colon, _ in pairs):
        raise InvalidSettings([f"TAMS_TRACES__HEADERS_FILE: {path}: its lines are `name: value`"])
    return {name.strip(): value.strip() for name, _, value in pairs}
