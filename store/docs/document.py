"""The OpenAPI 3.1 document of the API, assembled from the table of routes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from store.docs.beside import beside
from store.docs.operations import SPOKEN, Adapter, Spoken
from store.docs.parameters import SORTING, path_parameter, query_parameter
from store.docs.streaming import streaming
from store.models.error import Error
from store.routes.table import ROUTES, Methods

Schema = dict[str, Any]

JSON: Final = "application/json"
ERROR: Final[Adapter] = TypeAdapter(Error)
REFUSALS: Final = {
    400: "The request breaks the specification or a rule; nothing was changed.",
    401: "No credential, or none that is valid.",
    403: "Not allowed.",
    404: "There is no such thing, or none that you may know of.",
}
SECURITY: Final[Schema] = {
    "bearer_token_auth": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "basic_auth": {"type": "http", "scheme": "basic"},
    "url_token_auth": {"type": "apiKey", "name": "access_token", "in": "query"},
}
_HEADERS: Final = {
    "Link": ('`rel="next"`: the next page; missing on the last.', "string"),
    "X-Paging-Limit": ("The page size in force.", "integer"),
    "X-Paging-Count": ("How many items are on this page.", "integer"),
    "X-Paging-Reverse-Order": ("Whether the order is reversed.", "boolean"),
    "X-Paging-NextKey": ("The `page` to ask for next; missing on the last.", "string"),
}


def describe(title: str, version: str, server_url: str, *, authorization: bool) -> Schema:
    """The OpenAPI document. `authorization`: callers say who they are, and may be refused for it."""
    schemas, definitions = _schemas()
    paths = {
        template: _path(template, methods, schemas, authorization=authorization)
        for template, methods in ROUTES.items()
    }
    paths |= beside(schemas["error", "error"], authorization=authorization)
    paths |= streaming(authorization=authorization)
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "description": "A Time-addressable Media Store, TAMS 8.2.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server_url}],
        "paths": paths,
        "components": {"schemas": definitions},
    }
    if authorization:
        document["components"]["securitySchemes"] = SECURITY
        document["security"] = [{name: []} for name in SECURITY]
    return document


def _schemas() -> tuple[Mapping[tuple[str, str], Schema], Schema]:
    """The schema of every body and answer, by operation and part, and what these refer to."""
    inputs: list[tuple[str, Any, Adapter]] = [("error", "validation", ERROR)]
    for name, spoken in SPOKEN.items():
        if spoken.body is not None:
            inputs.append((f"{name} body", "validation", spoken.body))
        inputs += [
            (f"{name} {status}", "validation", adapter)
            for status, adapter in spoken.answers.items()
            if adapter is not None
        ]
    found, shared = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    schemas = {(key.split(" ")[0], key.split(" ")[-1]): schema for (key, _), schema in found.items()}
    return schemas, shared["$defs"]


def _path(
    template: str,
    methods: Methods,
    schemas: Mapping[tuple[str, str], Schema],
    *,
    authorization: bool,
) -> Schema:
    path: Schema = {}
    names = re.findall(r"{([^}]+)}", template)
    if names:
        path["parameters"] = [path_parameter(name) for name in names]
    for method, operation in methods.items():
        described = _operation(operation.id, schemas, authorization=authorization)
        path[method.lower()] = described
        if method == "GET":
            path["head"] = _head(described)
    return path


def _operation(name: str, schemas: Mapping[tuple[str, str], Schema], *, authorization: bool) -> Schema:
    spoken = SPOKEN[name]
    described: Schema = {"operationId": name, "summary": spoken.summary, "tags": [spoken.tag]}
    parameters = [query_parameter(each) for each in spoken.query]
    if name in SORTING:
        parameters.append(SORTING[name])
    if parameters:
        described["parameters"] = parameters
    if spoken.body is not None:
        content = {JSON: {"schema": schemas[name, "body"]}}
        described["requestBody"] = {"required": spoken.body_required, "content": content}
    described["responses"] = _responses(name, spoken, schemas, authorization=authorization)
    return described


def _responses(
    name: str, spoken: Spoken, schemas: Mapping[tuple[str, str], Schema], *, authorization: bool
) -> Schema:
    responses: Schema = {}
    for status, adapter in spoken.answers.items():
        response: Schema = {"description": "Done." if adapter is None else "What was asked for."}
        if adapter is not None:
            response["content"] = {JSON: {"schema": schemas[name, str(status)]}}
        headers = _headers(name, spoken, status)
        if headers:
            response["headers"] = headers
        responses[str(status)] = response
    refusals = {*spoken.refuses, *((401, 403) if authorization else ())}
    for status in sorted(refusals):
        content = {JSON: {"schema": schemas["error", "error"]}}
        responses[str(status)] = {"description": REFUSALS[status], "content": content}
    return responses


def _headers(name: str, spoken: Spoken, status: int) -> Schema:
    if status == 202:
        return {"Location": {"description": "The deletion request.", "schema": {"type": "string"}}}
    if not spoken.paged:
        return {}
    found = {
        header: {"description": text, "schema": {"type": kind}} for header, (text, kind) in _HEADERS.items()
    }
    if name == "GET_flows-flowId-segments":
        told = "The timerange of this page's segments."
        found["X-Paging-Timerange"] = {"description": told, "schema": {"type": "string"}}
    return found


def _head(get: Schema) -> Schema:
    """The HEAD of a GET: the same, without bodies."""
    responses = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in get["responses"].items()
    }
    return {**get, "operationId": get["operationId"].replace("GET_", "HEAD_"), "responses": responses}
