"""The specification's own document against the running store, asked directly and through the proxy as an
administrator: no fault, and no answer it does not know."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)

from store.routes.table import ROUTES
from tests.conformance.conftest import Served
from tests.store.harness import ARCHIVE, LOCAL, new_id, seconds

OWN = ("/analytics/", "/vast/", "/api/v1/")
"""What we answer beyond the specification."""
OPERATIONS = sorted(
    (template, method.lower())
    for template, methods in ROUTES.items()
    if not template.startswith(OWN) and "/hls" not in template
    for method in (*methods, *(("HEAD",) if "GET" in methods else ()))
    if method in ("GET", "HEAD") or template not in ("/sources", "/sources/{sourceId}")
)
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
QUICK = settings(
    max_examples=3,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
THOROUGH = settings(QUICK, max_examples=25)
MORE = settings(QUICK, max_examples=200, derandomize=False)
"""For an operation that took none of the first: what is generated differs from machine to machine."""
CREDENTIALS = {"authorization", "access_token"}
"""Generated beside ours as the specification's security schemes allow; a request with two is refused."""

# Statuses that we answer where the specification lists none such, and why. "*": every operation.
DEVIATIONS: dict[tuple[str, int], str] = {
    ("*", 400): "a URL that does not decode to UTF-8 without NUL names nothing; "
    "an unknown value of a known parameter is refused everywhere (rule 14)",
    ("*", 413): "a body that is longer than the configured limit is not read",
}


@pytest.fixture(scope="session")
def api(document: dict[str, Any]) -> Any:
    """The specification as schemathesis knows it."""
    return schemathesis.openapi.from_dict(document)


def sensible(body: Any, path: dict[str, str], values: dict[str, list[str]], data: st.DataObject) -> Any:
    """A body that names what exists, where a generated one could only guess; the rest is as generated."""
    if isinstance(body, list):
        return [sensible(item, path, values, data) for item in body]
    if not isinstance(body, dict):
        return body
    places = {
        "id": st.sampled_from(list(path.values())[-1:] or values["flowId"]),
        "source_id": st.just(new_id()),
        "storage_id": st.sampled_from((LOCAL, ARCHIVE)),
        "object_id": st.just(new_id()),
        "object_ids": st.just([new_id()]),
        "init_object_id": st.sampled_from(values["objectId"][-1:]),
        "url": st.just("https://a.invalid/x"),
        "label": st.uuids().map(str),
        "codec": st.just("video/h264"),
        "container": st.just("video/mp2t"),
        "timerange": st.integers(10, 10**6).map(lambda start: seconds(start, start + 1)),
        "object_timerange": st.just("_"),
        "flow_collection": st.just([{"id": values["flowId"][0]}]),
        "profile_id": st.just(values["profileId"][0]),
        "api_key_name": st.just("X-Key"),
        "api_key_value": st.just("secret"),
    }
    found = {name: sensible(value, path, values, data) for name, value in body.items()}
    found |= {name: data.draw(strategy) for name, strategy in places.items() if name in body}
    found.pop("object_timerange", None)
    return found


def steer(template: str, method: str, case: Any, data: st.DataObject) -> None:
    """What a body or query needs in order to be taken, beyond being allowed."""
    bodies = case.body if isinstance(case.body, list) else [case.body]
    for body in bodies:
        if template.endswith("/segments") and isinstance(body, dict):
            body["get_urls"] = [{"url": "https://a.invalid/x", "label": "l"}]
            body.pop("init_object_id", None)
            body.pop("ts_offset", None)
    if (template, method) == ("/objects/{objectId}/instances", "delete"):
        case.query = {"label": "elsewhere"}
    elif case.query and data.draw(st.booleans()):
        case.query = {n: v for n, v in case.query.items() if n not in ("page", "limit", "timerange")}


def hold(api: Any, served: Served, template: str, method: str, mode: GenerationMode, level: settings) -> None:
    """Call an operation with what the specification allows, or with what it does not."""
    operation = api[template][method.upper()]
    strategies = operation.as_strategy(generation_mode=mode)
    # Deleting is not to leave the next operation with nothing.
    values = served.furnish()
    if (template, method) == ("/service/profiles/{profileId}", "post"):
        # Profiles are created once.
        values["profileId"] = [new_id() for _ in range(8)]
    known = {int(status) for status in operation.definition.raw["responses"]}
    met: set[int] = set()

    def run(case: Any, data: st.DataObject) -> None:
        if mode is GenerationMode.POSITIVE:
            case.query = {n: v for n, v in (case.query or {}).items() if n not in CREDENTIALS}
            case.headers = {n: v for n, v in (case.headers or {}).items() if n.lower() not in CREDENTIALS}
        for name in case.path_parameters or ():
            if data.draw(st.integers(0, 3)):
                case.path_parameters[name] = quote(data.draw(st.sampled_from(values[name])), safe="")
        if mode is GenerationMode.POSITIVE and data.draw(st.integers(0, 3)):
            case.body = sensible(case.body, case.path_parameters or {}, values, data)
            steer(template, method, case, data)
        answer = case.call(base_url=served.url, headers=served.headers, timeout=30)
        case.validate_response(answer, checks=CHECKS)
        status = answer.status_code
        assert status in known or ("*", status) in DEVIATIONS, (status, answer.text)
        met.add(status)

    ask = given(case=strategies, data=st.data())
    level(ask(run))()
    if mode is GenerationMode.POSITIVE and level is THOROUGH:
        if not any(status < 300 for status in met):
            MORE(ask(run))()
        assert any(status < 300 for status in met), met


@pytest.mark.parametrize(("template", "method"), OPERATIONS)
def test_what_the_specification_allows(api: Any, served: Served, template: str, method: str) -> None:
    hold(api, served, template, method, GenerationMode.POSITIVE, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(("template", "method"), OPERATIONS)
def test_much_that_the_specification_allows(api: Any, served: Served, template: str, method: str) -> None:
    hold(api, served, template, method, GenerationMode.POSITIVE, THOROUGH)


@pytest.mark.slow
@pytest.mark.parametrize(("template", "method"), OPERATIONS)
def test_much_that_the_specification_does_not_allow(
    api: Any, served: Served, template: str, method: str
) -> None:
    hold(api, served, template, method, GenerationMode.NEGATIVE, THOROUGH)
