"""What is served beside the routes of TAMS, for the OpenAPI document: events, keys, tokens, health."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from store.docs.parameters import LIST, NUMBER, TEXT, URLS, UUIDS, query_parameter
from store.events.values import EVENT_TYPES

Schema = dict[str, Any]

JSON: Final = "application/json"
BYTES: Final[Schema] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_KEYS: Final = "Objects by key"
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
KEY_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": TEXT, "message": TEXT},
        }
    },
}
HEALTH: Final[Schema] = {
    "type": "object",
    "required": ["status", "version"],
    "properties": {"status": TEXT, "version": TEXT, "timestamp": _TIME},
}
READY: Final[Schema] = {
    "type": "object",
    "required": ["status", "version", "timestamp", "checks"],
    "properties": {
        "status": {"type": "string", "enum": ["ready", "not ready", "stopping"]},
        "version": TEXT,
        "timestamp": _TIME,
        "checks": {
            "type": "object",
            "additionalProperties": {"type": "string", "enum": ["ok", "failing"]},
            "description": "What requests depend on.",
        },
        "reasons": {
            "type": "object",
            "additionalProperties": TEXT,
            "description": "What is wrong with those that fail, for administrators.",
        },
    },
}
TOKEN: Final[Schema] = {
    "type": "object",
    "required": ["access_token", "token_type", "expires_in"],
    "properties": {"access_token": TEXT, "token_type": TEXT, "expires_in": NUMBER, "scope": TEXT},
}
KEY_WRITTEN: Final[Schema] = {
    "type": "object",
    "required": ["key", "size", "created_at"],
    "properties": {"key": TEXT, "size": NUMBER, "created_at": _TIME},
}
KEYS: Final[Schema] = {
    "type": "object",
    "required": ["keys", "next_cursor", "has_more"],
    "properties": {
        "keys": {"type": "array", "items": TEXT},
        "next_cursor": {"type": ["string", "null"]},
        "has_more": {"type": "boolean"},
    },
}
_FILTERS: Final = ("flow_ids", "source_ids", "flow_collected_by_ids", "source_collected_by_ids")
_CONDITIONS: Final = ("If-Match", "If-None-Match")


def beside(error: Schema, *, authorization: bool) -> dict[str, Schema]:
    """Paths with their operations. `error` is the API's own; `authorization` as in `describe`."""
    refused = ("401", "403") if authorization else ()
    found: dict[str, Schema] = {
        "/events": {"get": _events(error, refused)},
        "/health": {"get": _open("GET_health", "Whether the service works", HEALTH, ("503",), error)},
        "/ready": {"get": _ready()},
        "/metrics": {"get": _metrics(error, (*refused, *(("404",) if authorization else ())))},
        "/store/health": {"get": _open("GET_store-health", "Whether objects by key work", HEALTH)},
        "/store/objects": {"get": _keys(refused)},
        "/store/objects/{key}": {
            "parameters": [_parameter("key", "path", "The key, percent-encoded; slashes may stay.", TEXT)],
            "get": _object("GET", "An object", (*refused, "404", "412", "416"), {"200": BYTES, "206": BYTES}),
            "head": _object("HEAD", "The head of an object", (*refused, "404", "412"), {"200": None}),
            "put": _object("PUT", "Store an object", (*refused, "400", "412", "413"), {"201": KEY_WRITTEN}),
            "delete": _object("DELETE", "Delete an object", (*refused, "404", "412"), {"204": None}),
        },
    }
    if authorization:
        found["/token"] = {"post": _token()}
    return found


def _events(error: Schema, refused: Iterable[str]) -> Schema:
    kinds = ", ".join(sorted(EVENT_TYPES))
    parameters = [
        _parameter("events", "query", f"Of these kinds alone, with commas between: {kinds}.", LIST),
        *(_parameter(name, "query", "As of a webhook, with commas between.", UUIDS) for name in _FILTERS),
        *(query_parameter(name) for name in (*URLS, "include_object_timerange")),
        _parameter("after", "query", "The id of the last event that was taken.", TEXT),
        _parameter("Last-Event-ID", "header", "The same, as browsers say it.", TEXT),
    ]
    stream = {"text/event-stream": {"schema": TEXT}}
    return {
        "operationId": "GET_events",
        "summary": "Changes as they happen, as server-sent events; as a WebSocket when asked to upgrade",
        "tags": ["Events"],
        "parameters": parameters,
        "responses": {
            "101": {"description": "The same messages as a WebSocket."},
            "200": {"description": "Each event's data is what a webhook would be sent.", "content": stream},
            **{status: _refusal(status, error) for status in ("400", *refused, "503")},
        },
    }


def _keys(refused: Iterable[str]) -> Schema:
    parameters = [
        _parameter("prefix", "query", "Keys that start so.", TEXT),
        _parameter("limit", "query", "How many at most.", {**NUMBER, "minimum": 1, "maximum": 1000}),
        _parameter("cursor", "query", "Where to go on: `next_cursor` of the page before.", TEXT),
    ]
    return {
        "operationId": "GET_store-objects",
        "summary": "List keys",
        "tags": [_KEYS],
        "parameters": parameters,
        "responses": {
            "200": _answer(KEYS),
            **{status: _refusal(status, KEY_ERROR) for status in ("400", *refused)},
        },
    }


def _object(method: str, summary: str, refused: Iterable[str], answers: dict[str, Schema | None]) -> Schema:
    parameters = [_parameter(name, "header", "As RFC 9110 has it.", TEXT) for name in _CONDITIONS]
    operation: Schema = {
        "operationId": f"{method}_store-objects-key",
        "summary": summary,
        "tags": [_KEYS],
        "responses": {
            **{status: _answer(schema) for status, schema in answers.items()},
            **{status: _refusal(status, KEY_ERROR) for status in refused},
        },
    }
    if method == "GET":
        parameters.append(_parameter("Range", "header", "One range of bytes.", TEXT))
        operation["responses"]["307"] = {"description": "Long objects are at the signed URL in `Location`."}
    if method == "PUT":
        operation["requestBody"] = {"required": True, "content": BYTES}
    return {**operation, "parameters": parameters}


def _token() -> Schema:
    form = {
        "type": "object",
        "required": ["grant_type"],
        "properties": {
            "grant_type": {"type": "string", "enum": ["client_credentials", "password"]},
            "scope": TEXT,
            "client_id": TEXT,
            "client_secret": {"type": "string", "format": "password"},
        },
    }
    return {
        "operationId": "POST_token",
        "summary": "Get an access token; the client names itself by HTTP Basic or in the form",
        "tags": ["Tokens"],
        "security": [],
        "requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": form}}},
        "responses": {
            "200": _answer(TOKEN),
            **{status: {"description": "RFC 6749, 5.2."} for status in ("400", "401")},
        },
    }


def _open(
    name: str, summary: str, schema: Schema, refused: Iterable[str] = (), error: Schema | None = None
) -> Schema:
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["Health"],
        "security": [],
        "responses": {
            "200": _answer(schema),
            **{status: _refusal(status, error or KEY_ERROR) for status in refused},
        },
    }


def _ready() -> Schema:
    found = _open("GET_ready", "Whether requests can be answered, and what they depend on works", READY)
    not_now = {"description": "Not now.", "content": {JSON: {"schema": READY}}}
    return {**found, "responses": {**found["responses"], "503": not_now}}


def _metrics(error: Schema, refused: Iterable[str]) -> Schema:
    return {
        "operationId": "GET_metrics",
        "summary": "Figures for Prometheus, for administrators",
        "tags": ["Health"],
        "responses": {
            "200": {"description": "What was asked for.", "content": {"text/plain": {"schema": TEXT}}},
            **{status: _refusal(status, error) for status in refused},
        },
    }


def _answer(schema: Schema | None) -> Schema:
    if schema is None:
        return {"description": "Done."}
    content = schema if schema is BYTES else {JSON: {"schema": schema}}
    return {"description": "What was asked for.", "content": content}


def _refusal(status: str, schema: Schema) -> Schema:
    words = {
        "400": "The request makes no sense.",
        "401": "No credential, or none that is valid.",
        "403": "Not allowed.",
        "404": "There is no such thing, or none that you may know of.",
        "412": "The object is not as the request expects it.",
        "413": "The object is longer than may be.",
        "416": "The range lies outside the object.",
        "503": "Not now; try again.",
    }
    return {"description": words[status], "content": {JSON: {"schema": schema}}}


def _parameter(name: str, place: str, description: str, schema: Schema) -> Schema:
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "description": description, **required, "schema": schema}
