"""The specification's own document against the running store: no fault, and no answer it does not know."""

from __future__ import annotations

from typing import Any

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

OPERATIONS = sorted(
    (template, method.lower())
    for template, methods in ROUTES.items()
    for method in (*methods, *(("HEAD",) if "GET" in methods else ()))
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


def hold(api: Any, served: Served, template: str, method: str, mode: GenerationMode, level: settings) -> None:
    """Call an operation with what the specification allows, or with what it does not."""
    operation = api[template][method.upper()]
    strategies = operation.as_strategy(generation_mode=mode)

    @level
    @given(case=strategies, data=st.data())
    def run(case: Any, data: st.DataObject) -> None:
        for name in case.path_parameters or ():
            if data.draw(st.integers(0, 3)):
                case.path_parameters[name] = data.draw(st.sampled_from(served.values[name]))
        answer = case.call(base_url=served.url, timeout=30)
        case.validate_response(answer, checks=CHECKS)
        known = {int(status) for status in operation.definition.raw["responses"]}
        status = answer.status_code
        assert status in known or ("*", status) in DEVIATIONS, (status, answer.text)

    run()


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
