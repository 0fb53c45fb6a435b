"""Traces: a span for each decision, below its caller's, sent where operators say, with nobody's secrets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra `traces` is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proxy.audit import Decision
from proxy.errors import InvalidSettings
from proxy.rules import RULES
from proxy.traces import Tracer, TraceSettings, tracing
from tests.proxy.support import running

CANARY = "canary-2b9d"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector:
    """Takes spans over HTTP."""

    def __init__(self) -> None:
        taken, headers = [], []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers.append(dict(self.headers))
                taken.append(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is logged."""

        self.bodies: list[bytes] = taken
        self.headers: list[dict[str, str]] = headers
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def spans(self) -> list[tuple[str, dict[str, str], str]]:
        """Of all spans: name, attributes as text, the trace they are of."""
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        said = {
                            each.key: each.value.string_value or str(each.value.int_value)
                            for each in span.attributes
                        }
                        found.append((span.name, said, span.trace_id.hex()))
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


async def test_what_was_decided_arrives_and_nothing_secret(tmp_path: Path, collector: Collector) -> None:
    (tmp_path / "headers").write_text("x-team: media\n")
    traces = {"endpoint": collector.url, "headers_file": str(tmp_path / "headers")}
    async with running(tmp_path, traces=traces, allow_url_token=True) as proxy:
        flow = await proxy.flow(["v"])
        await proxy.call("attacker", "GET", f"/flows/{flow['id']}", headers={"traceparent": PARENT})
        await proxy.call(None, "GET", f"/flows?access_token={CANARY}", headers={"x-api-key": CANARY})
        assert (await proxy.made("admin", "GET", "/health")).json()["telemetry"]["tracing_enabled"] is True
        token = await proxy.token("attacker")
    spans = collector.spans()
    (denied,) = [said for name, said, trace in spans if trace == PARENT.split("-")[1] and name != "store"]
    assert (denied["tams.operation"], denied["tams.verdict"]) == ("GET_flows-flowId", "deny")
    assert (denied["http.response.status_code"], denied["enduser.id"]) == ("404", "local/attacker")
    assert any(name == "store" for name, _, _ in spans)
    assert all(headers["x-team"] == "media" for headers in collector.headers)
    sent = b"".join(collector.bodies)
    assert CANARY.encode() not in sent and token.encode() not in sent


def spans_of(decision: Decision) -> list[ReadableSpan]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Tracer(provider).take([decision])
    return list(exporter.get_finished_spans())


def decision(status: int, trace_parent: str | None = None) -> Decision:
    made = Decision("id", "GET", "/flows", 1_700_000_000.0, RULES["/flows"]["GET"], status=status, calls=1)
    made.began_ns, made.asked_ns, made.ended_ns = 1_000, 3_000, 11_000
    made.store_ns, made.trace_parent = 5_000, trace_parent
    return made


def test_the_store_has_its_time_within_the_request() -> None:
    inner, outer = spans_of(decision(200))
    start = 1_700_000_000_000_000_000
    assert (outer.name, outer.start_time, outer.end_time) == ("GET_flows", start, start + 10_000)
    assert (inner.name, inner.start_time, inner.end_time) == ("store", start + 2_000, start + 7_000)
    assert inner.parent is not None and inner.parent.span_id == outer.context.span_id


@pytest.mark.parametrize(("status", "failed"), [(200, False), (404, False), (503, True)])
def test_only_failures_of_ours_are_errors(status: int, failed: bool) -> None:
    (_, outer) = spans_of(decision(status))
    assert (not outer.status.is_ok and not outer.status.is_unset) == failed


@pytest.mark.parametrize("said", [None, "", "nonsense", "00-zz-00-01", PARENT[:-3]])
def test_a_caller_that_says_nothing_sensible_begins_a_trace(said: str | None) -> None:
    (_, outer) = spans_of(decision(200, said))
    assert outer.parent is None


def test_a_caller_that_does_not_want_to_be_traced_is_not() -> None:
    assert spans_of(decision(200, PARENT[:-1] + "0")) == []
    assert len(spans_of(decision(200, PARENT))) == 2


@pytest.mark.parametrize("content", [None, "no colon"])
async def test_headers_that_cannot_be_used_are_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "headers"
    if content is not None:
        path.write_text(content)
    settings = TraceSettings(endpoint="http://127.0.0.1:9/v1/traces", headers_file=path)
    with pytest.raises(InvalidSettings, match="TAMS_TRACES__HEADERS_FILE"):
        async with tracing(settings, "tams", "1"):
            pass


async def test_without_an_endpoint_there_is_nothing() -> None:
    async with tracing(TraceSettings(), "tams", "1") as tracer:
        assert tracer is None
