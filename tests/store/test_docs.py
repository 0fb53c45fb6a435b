"""The OpenAPI document and the pages that show it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from store.docs.document import describe
from store.docs.operations import SPOKEN
from store.events.matching import LISTS
from store.routes.keys import KEY_ROUTES
from store.routes.table import OPERATIONS
from store.streams.doors import PATHS, SOCKET
from tests.store.harness import Tams

SPEC = Path(__file__).resolve().parents[3] / "shared" / "tams-api" / "8.2" / "TimeAddressableMediaStore.yaml"
# Statuses that we answer and the specification does not list: the reason of each.
MORE_STATUSES = {
    ("GET_storage-backends", "400"): "unknown values of known parameters are refused (rule 14)",
    ("GET_flow-delete-requests", "400"): "unknown values of known parameters are refused (rule 14)",
    ("GET_webhooks", "400"): "unknown values of known parameters are refused (rule 14)",
    ("POST_profiles-profileId", "403"): "who may create profiles is a matter of policy",
}
# Statuses of the specification that do not occur here.
FEWER_STATUSES = {
    ("GET_webhooks", "404"): "webhooks are supported",
    ("POST_webhooks", "404"): "webhooks are supported",
}


PLAYLIST = "/hls"
BEYOND = ("POST_sources", "PUT_sources-sourceId", "DELETE_sources-sourceId")
STREAMS = ("/ping", "/streams", "/data/", "/ptg/")
WATCHED = ("/health", "/ready", "/metrics")
OWN = ("/analytics/", "/vast/", "/api/v1/vast/", "/events", "/store/", "/token", *WATCHED, *STREAMS)
"""What we answer beyond the specification."""
OPEN = ("GET_health", "GET_ready", "GET_store-health", "POST_token", "GET_ping", "GET_ptg-ping")
"""What asks nobody who it is."""


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    """Our own document, without what the specification does not speak of."""
    document = describe("TAMS", "1", "http://tams.test", authorization=False)
    paths = {
        path: {
            name: said
            for name, said in item.items()
            if not isinstance(said, dict) or said.get("operationId") not in BEYOND
        }
        for path, item in document["paths"].items()
        if not path.startswith(OWN) and PLAYLIST not in path
    }
    return {**document, "paths": paths}


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """The specification's."""
    if not SPEC.is_file():
        pytest.skip("the TAMS 8.2 specification is not beside the checkout")
    document: dict[str, Any] = yaml.safe_load(SPEC.read_text())
    return document


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations of a document by operationId, with the parameters of their path."""
    shared = document.get("components", {}).get("parameters", {})
    found = {}
    for item in document["paths"].values():
        for method, operation in item.items():
            if method == "parameters":
                continue
            parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
            named = [shared[p["$ref"].split("/")[-1]] if "$ref" in p else p for p in parameters]
            found[operation["operationId"]] = {**operation, "parameters": named}
    return found


def test_every_route_is_spoken_of() -> None:
    assert set(SPOKEN) == set(OPERATIONS)


def test_the_documents_know_the_same_paths_and_operations(
    ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    assert set(ours["paths"]) == set(theirs["paths"])
    assert set(operations(ours)) == set(operations(theirs))


def test_the_documents_know_the_same_parameters(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    wanted = operations(theirs)
    for name, operation in operations(ours).items():
        if name.startswith("HEAD_"):
            continue
        here = {(p["in"], p["name"]) for p in operation["parameters"]}
        assert here == {(p["in"], p["name"]) for p in wanted[name]["parameters"]}, name


def test_the_documents_know_the_same_bodies_and_statuses(
    ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    wanted = operations(theirs)
    for name, operation in operations(ours).items():
        if name.startswith("HEAD_"):
            continue
        there = wanted[name]
        assert ("requestBody" in operation) is ("requestBody" in there), name
        if "requestBody" in there:
            required = there["requestBody"].get("required", False)
            assert operation["requestBody"]["required"] is required, name
        here = set(operation["responses"]) - {s for n, s in MORE_STATUSES if n == name}
        assert here == set(there["responses"]) - {s for n, s in FEWER_STATUSES if n == name}, name
        for status, response in there["responses"].items():
            if status.startswith("2"):
                assert ("content" in operation["responses"][status]) is ("content" in response), (
                    name,
                    status,
                )
                headers = {header.lower() for header in response.get("headers", ())}
                assert headers <= {h.lower() for h in operation["responses"][status].get("headers", ())}, name


def test_every_schema_is_one_and_every_reference_leads_somewhere(ours: dict[str, Any]) -> None:
    text = str(ours)
    names = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert names <= set(ours["components"]["schemas"])
    for schema in ours["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_with_authorization_the_document_says_so() -> None:
    document = describe("TAMS", "1", "http://tams.test", authorization=True)
    assert document["security"] == [
        {"bearer_token_auth": []},
        {"basic_auth": []},
        {"url_token_auth": []},
    ]
    for name, operation in operations(document).items():
        if operation.get("security") == []:
            assert name in OPEN
        else:
            assert {"401", "403"} <= set(operation["responses"])
    assert "POST_token" not in operations(describe("TAMS", "1", "http://tams.test", authorization=False))


def test_what_is_served_beside_tams_is_spoken_of_as_it_is() -> None:
    document = describe("TAMS", "1", "http://tams.test", authorization=True)
    for template, methods in KEY_ROUTES.items():
        for method, name in methods.items():
            assert document["paths"][template][method.lower()]["operationId"] == name
    for template, methods in PATHS.items():
        item = document["paths"][template]
        assert set(item) - {"parameters"} == {"get" if m == SOCKET else m.lower() for m in methods}
        names = re.findall(r"{(\w+)}", template)
        assert names == [each["name"] for each in item.get("parameters", ())]
    assert {"101", "401", "403"} == set(document["paths"]["/data/{sid}/push"]["get"]["responses"])
    named = {each["name"] for each in document["paths"]["/events"]["get"]["parameters"]}
    assert {"after", "events", *LISTS} <= named
    pytest.importorskip("openapi_spec_validator", reason="it comes with moto").validate(document)


async def test_the_document_and_the_pages_are_served(tams: Tams) -> None:
    document = await tams.get("/openapi.json")
    assert document["openapi"] == "3.1.0" and "securitySchemes" not in document["components"]
    for path in ("/docs", "/redoc"):
        answer = await tams.request("GET", path)
        assert answer.headers["content-type"].startswith("text/html")
        assert "script-src 'self';" in answer.headers["content-security-policy"]
        loaded = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
        assert loaded and all(each.startswith("/docs/") for each in loaded)
        for each in loaded:
            asset = await tams.request("GET", each)
            assert asset.status_code == 200 and len(asset.content) > 50, each
            assert asset.headers["x-content-type-options"] == "nosniff"
        head = await tams.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        assert (await tams.request("POST", path)).status_code == 405
    assert (await tams.request("GET", "/docs/other.js")).status_code == 404
