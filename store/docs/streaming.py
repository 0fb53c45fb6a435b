"""Live streams, for the OpenAPI document: both wires, over HTTP and as WebSockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from store.docs.parameters import FLAG, NUMBER, TEXT
from store.streams.doors import PATHS, SOCKET

Schema = dict[str, Any]
Parameters = tuple[tuple[str, str, Schema], ...]

_JSON: Final = "application/json"
_TAG: Final = "Live streams"
_BYTES: Final[Schema] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_COUNT: Final[Schema] = {**NUMBER, "minimum": 1}
_TEXTS: Final[Schema] = {"type": "array", "items": TEXT}
_STREAM: Final[Schema] = {
    "type": ["object", "null"],
    "required": ["id", "description", "metadata", "max_len"],
    "properties": {
        "id": TEXT,
        "description": {"type": ["string", "null"]},
        "metadata": {"type": "object"},
        "max_len": {"type": ["integer", "null"]},
    },
}
_WISH: Final[Schema] = {
    "type": "object",
    "properties": {
        "id": TEXT,
        "description": TEXT,
        "metadata": {"type": "object"},
        "max_len": _COUNT,
        "override": FLAG,
    },
}
_RECORDING: Final[Schema] = {
    "type": ["object", "null"],
    "required": ["id", "start", "stop", "duration", "streams"],
    "properties": {
        "id": TEXT,
        "start": {"type": "string", "description": "The id of an entry of that time."},
        "stop": {"type": ["string", "null"]},
        "duration": {"type": ["number", "null"], "description": "Seconds."},
        "streams": _TEXTS,
    },
}
_DETAIL: Final[Schema] = {"type": "object", "required": ["detail"], "properties": {"detail": TEXT}}
_FORM: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": "string", "format": "binary"},
    "minProperties": 1,
}
_READING: Final[Parameters] = (
    ("count", "How many entries at most, of each stream; 1 by default.", _COUNT),
    ("last_entry_id", "Behind which entry: an id, `*` the newest, `$` what is still to come.", TEXT),
)
_PUSHING: Final[Parameters] = (
    ("batch", "Several entries at once: a text that says where each is, then their bytes.", FLAG),
    ("ack", "Answer with the ids, once the entries are on disk.", FLAG),
)
_PULLING: Final[Parameters] = (
    ("time_sync_id", "The stream at whose entries the newest of the others are told.", TEXT),
    ("latest", "Leave out all but the newest.", FLAG),
    ("timeout", "Milliseconds without an entry, after which the socket is closed.", _COUNT),
    ("rate_limit", "Messages a second at most.", {"type": "number", "exclusiveMinimum": 0}),
    ("ack", "Send the next message when the client has sent one.", FLAG),
)
_REPLAYING: Final[Parameters] = (
    ("rec_id", "The recording.", TEXT),
    ("sid", "Of these streams alone, with plus signs between.", TEXT),
    ("fullspeed", "As fast as they are taken, instead of in their own time.", FLAG),
    (
        "interval",
        "Milliseconds from one entry to the next, instead of their own time.",
        {**NUMBER, "minimum": 0},
    ),
)


@dataclass(frozen=True, slots=True)
class _Spoken:
    """What there is to say of one operation; `answer` None for a WebSocket. `later`: parameters that only the
    later wire has."""

    summary: str
    answer: Schema | None
    query: Parameters = ()
    later: Parameters = ()
    refuses: tuple[str, ...] = ()
    told: str = ""


_SPOKEN: Final[dict[str, _Spoken]] = {
    "GET_ping": _Spoken("Whether streams are served", FLAG),
    "GET_streams": _Spoken("The ids of all streams", _TEXTS),
    "GET_streams-id": _Spoken(
        "A stream",
        _STREAM,
        (("report_error", "`false`: null for a stream that is not there.", FLAG),),
        refuses=("404",),
    ),
    "PUT_streams": _Spoken("Make a stream, or change it: the body names it", _STREAM, refuses=("400",)),
    "PUT_streams-id": _Spoken("Make a stream, or change it", _STREAM, refuses=("400",)),
    "DELETE_streams-id": _Spoken(
        "Delete a stream with all its entries",
        FLAG,
        (("force", "Be content when there is none.", FLAG),),
        refuses=("404",),
    ),
    "GET_data-id": _Spoken(
        "Entries of a stream, by default the newest", _BYTES, _READING, refuses=("400", "404")
    ),
    "POST_data-id": _Spoken(
        "Append the fields of a form as entries; the stream is made if there is none",
        _TEXTS,
        refuses=("400", "413", "503"),
    ),
    "push": _Spoken(
        "WebSocket: append entries as they come; the stream is made if there is none",
        None,
        _PUSHING,
        told="Each entry is one binary message. With `batch`, a text first: where each entry starts "
        "(`0,3,8`), or as JSON where each ends (`[3, 8, 9]`), `[[stream, end], ...]` or `[[stream, id, end], "
        "...]`; then all their bytes as one binary message. With `ack` each message is answered with the ids "
        "of its entries, with commas between. "
        "A message has at most 16 MiB.",
    ),
    "pull": _Spoken(
        "WebSocket: follow entries as they come",
        None,
        _READING,
        _PULLING,
        ("404",),
        "Repeats a text, `[[id, start], ...]` (under `/ptg` `[[stream, id, start], ...]`), and a binary "
        "message with the bytes. `last_entry_id` is `$` by default: nothing pushed from now on is missed.",
    ),
    "replay": _Spoken(
        "WebSocket: see a recording again",
        None,
        _REPLAYING,
        refuses=("404",),
        told="Messages are those of a pull.",
    ),
    "GET_recordings": _Spoken(
        "All recordings",
        {"type": "array", "items": {"anyOf": [TEXT, _RECORDING]}},
        (("info", "Tell about each; else only its id.", FLAG),),
    ),
    "GET_recordings-current": _Spoken("What is being recorded, null for nothing", _RECORDING),
    "GET_recordings-id": _Spoken("A recording", _RECORDING, refuses=("404",)),
    "PUT_recordings-start": _Spoken(
        "Begin to record", _RECORDING, (("rec_id", "What to call it.", TEXT),), refuses=("400",)
    ),
    "PUT_recordings-stop": _Spoken("End the recording", _RECORDING, refuses=("400",)),
    "PUT_recordings-id-rename": _Spoken("Give a recording another id", _RECORDING, refuses=("400", "404")),
    "DELETE_recordings-id": _Spoken(
        "Forget a recording; the streams keep their entries", FLAG, refuses=("404",)
    ),
}
_WISHES: Final[Parameters] = (
    ("desc", "What it is.", TEXT),
    ("meta", "Anything else, a JSON object as text.", TEXT),
    ("max_len", "How many entries are kept; all by default.", _COUNT),
    ("override", "Replace what is said of a stream that exists.", FLAG),
)
_NAMES: Final = {"sid": "The stream.", "rid": "The recording.", "new": "Its new id."}
_WORDS: Final = {
    "400": "The request makes no sense.",
    "401": "No credential, or none that is valid.",
    "403": "Not allowed.",
    "404": "There is no such thing, or none that you may know of.",
    "413": "The body is longer than may be.",
    "503": "Not now; try again.",
}


def streaming(*, authorization: bool) -> dict[str, Schema]:
    """Paths with their operations; `authorization` as in `document.describe`."""
    return {
        template: {
            **_path(template),
            **{
                "get" if method == SOCKET else method.lower(): _operation(template, name, authorization)
                for method, name in methods.items()
            },
        }
        for template, methods in PATHS.items()
    }


def _path(template: str) -> Schema:
    names = [name for name in _NAMES if f"{{{name}}}" in template]
    several = "The stream, or several with plus signs between." if template.startswith("/ptg/data/") else ""
    found = [
        {"name": name, "in": "path", "required": True, "description": several or _NAMES[name], "schema": TEXT}
        for name in names
    ]
    return {"parameters": found} if found else {}


def _operation(template: str, name: str, authorization: bool) -> Schema:
    spoken, later = _SPOKEN[name], template.startswith("/ptg/")
    is_open = name == "GET_ping"
    refuses = {*spoken.refuses, *(("401", "403") if authorization and not is_open else ())}
    told = [spoken.told] if spoken.told else []
    if later and authorization and not is_open:
        told.append("The cookie that `/ptg/token` sets is taken too; by WebSockets `?token=`.")
    named = name.replace("_", "_ptg-", 1) if "_" in name else f"ptg-{name}"
    return {
        "operationId": named if later else name,
        "summary": spoken.summary,
        "tags": [_TAG],
        **({"description": " ".join(told)} if told else {}),
        **({"security": []} if is_open else {}),
        **_asked(name, spoken, later),
        "responses": {
            **_answers(name, spoken),
            **{each: {"description": _WORDS[each], **_content(_DETAIL)} for each in sorted(refuses)},
        },
    }


def _asked(name: str, spoken: _Spoken, later: bool) -> Schema:
    """The query and the body."""
    query = (*spoken.query, *(spoken.later if later else ()))
    found: Schema = {}
    if name == "PUT_streams-id" and not later:
        query = _WISHES
    elif name in ("PUT_streams-id", "PUT_streams"):
        found["requestBody"] = {"required": name == "PUT_streams", **_content(_WISH)}
    elif name == "POST_data-id":
        found["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
    if query:
        found["parameters"] = [
            {"name": each, "in": "query", "description": text, "schema": schema}
            for each, text, schema in query
        ]
    return found


def _answers(name: str, spoken: _Spoken) -> Schema:
    if spoken.answer is None:
        return {
            "101": {"description": "The WebSocket. When it must end, it is closed with a code and a reason."}
        }
    found: Schema = {"description": "What was asked for."}
    if name == "GET_data-id":
        told = "Where each entry starts: `[[id, start], ...]`, under `/ptg` `[[stream, id, start], ...]`."
        headers = {"entry-offset": {"description": told, "schema": TEXT}}
        return {"200": {**found, "headers": headers, "content": spoken.answer}}
    return {"200": {**found, **_content(spoken.answer)}}


def _content(schema: Schema) -> Schema:
    return {"content": {_JSON: {"schema": schema}}}
