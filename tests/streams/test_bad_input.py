"""Whatever is asked of the doors is answered, and never by a fault."""

from __future__ import annotations

from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.harness import Tams

NAMES = [
    "count",
    "last_entry_id",
    "desc",
    "meta",
    "max_len",
    "override",
    "force",
    "report_error",
    "rec_id",
    "info",
]
values = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["*", "$", "0", "1-1", "-1", "true", "{}", "[]", '{"a":1}', "9" * 30, "1e9", "x" * 300]),
)
segments = st.one_of(
    st.text(max_size=6).map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="")),
    st.sampled_from(
        ["s", "a+b", "*", "current", "start", "stop", "replay", "%00", "%ff", "..", "%2e%2e", "%2F"]
    ),
)
paths = st.tuples(
    st.sampled_from(["", "/ptg"]),
    st.sampled_from(["/streams", "/data", "/recordings"]),
    st.lists(segments, max_size=3),
).map(lambda parts: f"{parts[0]}{parts[1]}/{'/'.join(parts[2])}")
bodies = st.one_of(
    st.binary(max_size=30), st.sampled_from([b"{}", b'{"meta":{}}', b'{"max_len":-1}', b"[[[["])
)
kinds = st.sampled_from(
    ["application/json", "multipart/form-data; boundary=x", "multipart/form-data", "", "\xff"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"]),
    paths,
    st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=3),
    bodies,
    kinds,
)
async def test_nothing_that_is_asked_is_a_fault(
    tams: Tams, method: str, path: str, query: list[tuple[str, str]], body: bytes, kind: str
) -> None:
    pairs = "&".join(f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in query)
    raw = f"{path}?{pairs}".encode()
    url = httpx.URL("http://tams.test").copy_with(raw_path=raw)
    answer = await tams.client.request(
        method,
        url,
        content=body,
        headers={"content-type": kind.encode("latin-1")},  # type: ignore[dict-item]
    )
    assert answer.status_code < 500, (method, raw, answer.text)
    if answer.status_code >= 400 and method != "HEAD":
        assert set(answer.json()) & {"detail", "summary"}
