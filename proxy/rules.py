"""THE TABLE: what every operation of the API asks of its caller. Data only.

An operation without a row does not exist to callers. HEAD is GET. The scopes are those of AppNote 0016's
coarse table; what a row's `check` means is written in `decide.py` and `writes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from proxy.identity.principal import ADMIN, DELETE, READ, WRITE


class Action(Enum):
    """What a class permits."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


class Target(Enum):
    """What a rule decides on: the classes of the resource that a path parameter names, or something else.

    LIST: what may be read is listed; BACKENDS: what there is any permission on. MEDIA: the bytes behind an
    unsigned URL.
    """

    NOTHING = "nothing"
    ADMIN = "admin"
    LIST = "list"
    BACKENDS = "storage backends"
    MEDIA = "media"
    SOURCE = "source"
    FLOW = "flow"
    PROFILE = "profile"
    WEBHOOK = "webhook"
    DELETION = "deletion"
    OBJECT = "object"


class Check(Enum):
    """What is decided beyond the target's classes, mostly on the body."""

    NOTHING = auto()
    PUT_FLOW = auto()
    TAG = auto()
    COLLECTION = auto()
    SEGMENTS = auto()
    STORAGE = auto()
    INSTANCE = auto()
    PUT_WEBHOOK = auto()
    NEW_WEBHOOK = auto()
    NEW_PROFILE = auto()
    NEW_SOURCE = auto()
    PUT_SOURCE = auto()


class Body(Enum):
    """What of an answer may name hidden things."""

    NOTHING = auto()
    DOCUMENT = auto()
    DOCUMENTS = auto()
    COLLECTION = auto()
    OBJECT = auto()
    PLAYLIST = auto()


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `scopes`: any of them passes the coarse step. `param`: names the target in the path."""

    operation: str
    scopes: frozenset[str]
    target: Target
    action: Action = Action.READ
    param: str = ""
    check: Check = Check.NOTHING
    body: Body = Body.NOTHING


_R, _W, _D, _A = (frozenset((scope, ADMIN)) for scope in (READ, WRITE, DELETE, ADMIN))
_ANY = frozenset((READ, WRITE, DELETE, ADMIN))
Methods = Mapping[str, Rule]
MEDIA_PATH = "/media/{backend}/{token}"
"""The unsigned URL of bytes on local files. Not of the specification, and not answered by the store's API."""


def _open(operation: str, scopes: frozenset[str] = _ANY) -> Rule:
    return Rule(operation, scopes, Target.NOTHING)


def _list(operation: str, body: Body = Body.DOCUMENTS) -> Rule:
    return Rule(operation, _R, Target.LIST, body=body)


def _properties(
    target: Target, template: str, param: str, stem: str, names: tuple[str, ...]
) -> dict[str, Methods]:
    """The paths of simple properties: read by readers, set and dropped by writers."""
    return {
        f"{template}/{name}": {
            "GET": Rule(f"GET_{stem}-{name.replace('_', '-')}", _R, target, Action.READ, param),
            "PUT": Rule(f"PUT_{stem}-{name.replace('_', '-')}", _W, target, Action.WRITE, param),
            "DELETE": Rule(f"DELETE_{stem}-{name.replace('_', '-')}", _W, target, Action.WRITE, param),
        }
        for name in names
    }


def _tags(target: Target, template: str, param: str, stem: str) -> dict[str, Methods]:
    return {
        f"{template}/tags": {"GET": Rule(f"GET_{stem}-tags", _R, target, Action.READ, param)},
        f"{template}/tags/{{name}}": {
            "GET": Rule(f"GET_{stem}-tags-name", _R, target, Action.READ, param),
            "PUT": Rule(f"PUT_{stem}-tags-name", _W, target, Action.WRITE, param, Check.TAG),
            "DELETE": Rule(f"DELETE_{stem}-tags-name", _W, target, Action.WRITE, param, Check.TAG),
        },
    }


def _figures(template: str, *names: str) -> dict[str, Methods]:
    """The paths of figures about everything: for administrators."""
    stem = template.strip("/").replace("/", "-")
    return {f"{template}/{name}": {"GET": Rule(f"GET_{stem}-{name}", _A, Target.ADMIN)} for name in names}


_SOURCE, _FLOW = "/sources/{sourceId}", "/flows/{flowId}"


def _flow(
    method: str,
    suffix: str,
    scopes: frozenset[str],
    action: Action,
    check: Check = Check.NOTHING,
    body: Body = Body.NOTHING,
) -> Rule:
    operation = f"{method}_flows-flowId{suffix}"
    return Rule(operation, scopes, Target.FLOW, action, "flowId", check, body)


RULES: dict[str, Methods] = {
    "/": {"GET": _open("GET_root")},
    "/service": {
        "GET": _open("GET_service"),
        "POST": Rule("POST_service", _A, Target.ADMIN),
    },
    "/service/storage-backends": {"GET": Rule("GET_storage-backends", _ANY, Target.BACKENDS)},
    "/service/profiles": {"GET": _list("GET_profiles", Body.NOTHING)},
    "/service/profiles/{profileId}": {
        "GET": Rule("GET_profiles-profileId", _R, Target.PROFILE, Action.READ, "profileId"),
        "POST": Rule(
            "POST_profiles-profileId", _W, Target.PROFILE, Action.WRITE, "profileId", Check.NEW_PROFILE
        ),
    },
    "/service/webhooks": {
        "GET": _list("GET_webhooks", Body.NOTHING),
        "POST": Rule("POST_webhooks", _W, Target.NOTHING, Action.WRITE, check=Check.NEW_WEBHOOK),
    },
    # As AppNote 0016 has it, changing a webhook needs no more of a token than reading.
    "/service/webhooks/{webhookId}": {
        "GET": Rule("GET_webhooks-webhookId", _R, Target.WEBHOOK, Action.READ, "webhookId"),
        "PUT": Rule("PUT_webhooks", _R, Target.WEBHOOK, Action.WRITE, "webhookId", Check.PUT_WEBHOOK),
        "DELETE": Rule("DELETE_webhooks-webhookId", _R, Target.WEBHOOK, Action.DELETE, "webhookId"),
    },
    "/sources": {
        "GET": _list("GET_sources"),
        "POST": Rule("POST_sources", _W, Target.NOTHING, Action.WRITE, check=Check.NEW_SOURCE),
    },
    _SOURCE: {
        "GET": Rule("GET_sources-sourceId", _R, Target.SOURCE, Action.READ, "sourceId", body=Body.DOCUMENT),
        "PUT": Rule("PUT_sources-sourceId", _W, Target.SOURCE, Action.WRITE, "sourceId", Check.PUT_SOURCE),
        "DELETE": Rule("DELETE_sources-sourceId", _D, Target.SOURCE, Action.DELETE, "sourceId"),
    },
    **_tags(Target.SOURCE, _SOURCE, "sourceId", "sources-sourceId"),
    **_properties(Target.SOURCE, _SOURCE, "sourceId", "sources-sourceId", ("description", "label")),
    f"{_SOURCE}/hls.m3u8": {
        "GET": Rule("GET_source-hls", _R, Target.SOURCE, Action.READ, "sourceId", body=Body.PLAYLIST),
    },
    "/flows": {"GET": _list("GET_flows")},
    _FLOW: {
        "GET": _flow("GET", "", _R, Action.READ, body=Body.DOCUMENT),
        "PUT": _flow("PUT", "", _W, Action.WRITE, check=Check.PUT_FLOW),
        "DELETE": _flow("DELETE", "", _D, Action.DELETE),
    },
    **_tags(Target.FLOW, _FLOW, "flowId", "flows-flowId"),
    **_properties(
        Target.FLOW,
        _FLOW,
        "flowId",
        "flows-flowId",
        ("description", "label", "max_bit_rate", "avg_bit_rate"),
    ),
    f"{_FLOW}/read_only": {
        "GET": _flow("GET", "-read-only", _R, Action.READ),
        "PUT": _flow("PUT", "-read-only", _W, Action.WRITE),
    },
    f"{_FLOW}/flow_collection": {
        "GET": _flow("GET", "-flow-collection", _R, Action.READ, body=Body.COLLECTION),
        "PUT": _flow("PUT", "-flow-collection", _W, Action.WRITE, check=Check.COLLECTION),
        "DELETE": _flow("DELETE", "-flow-collection", _W, Action.WRITE, check=Check.COLLECTION),
    },
    f"{_FLOW}/segments": {
        "GET": _flow("GET", "-segments", _R, Action.READ),
        "POST": _flow("POST", "-segments", _W, Action.WRITE, check=Check.SEGMENTS),
        "DELETE": _flow("DELETE", "-segments", _D, Action.DELETE),
    },
    f"{_FLOW}/hls.m3u8": {
        "GET": Rule("GET_flow-hls", _R, Target.FLOW, Action.READ, "flowId", body=Body.PLAYLIST),
    },
    f"{_FLOW}/hls/{{objectId}}": {
        "GET": Rule("GET_flow-hls-media", _R, Target.FLOW, Action.READ, "flowId"),
    },
    f"{_FLOW}/storage": {"POST": _flow("POST", "-storage", _W, Action.WRITE, check=Check.STORAGE)},
    "/objects/{objectId}": {
        "GET": Rule("GET_objects", _R, Target.OBJECT, Action.READ, "objectId", body=Body.OBJECT),
    },
    "/objects/{objectId}/instances": {
        "POST": Rule("POST_objects-instances", _W, Target.OBJECT, Action.WRITE, "objectId", Check.INSTANCE),
        "DELETE": Rule(
            "DELETE_objects-instances", _W, Target.OBJECT, Action.WRITE, "objectId", Check.INSTANCE
        ),
    },
    "/flow-delete-requests": {
        "GET": Rule("GET_flow-delete-requests", _A, Target.ADMIN),
    },
    "/flow-delete-requests/{request-id}": {
        "GET": Rule("GET_flow-delete-requests-request-id", _D, Target.DELETION, Action.DELETE, "request-id"),
    },
    **_figures("/analytics", "flow-usage", "storage-usage", "time-range-analysis", "catalogue-summary"),
    **_figures("/vast", "status", "buckets"),
    **_figures("/api/v1/vast", "buckets"),
    MEDIA_PATH: {
        "GET": Rule("GET_media", _R, Target.MEDIA, Action.READ, "token"),
        "PUT": Rule("PUT_media", _W, Target.MEDIA, Action.WRITE, "token"),
    },
}

EXTENSIONS = frozenset(
    (
        "GET_flow-hls",
        "GET_flow-hls-media",
        "GET_source-hls",
        "POST_sources",
        "PUT_sources-sourceId",
        "DELETE_sources-sourceId",
    )
)
"""Operations on sources and flows that our store has beyond the specification, and others have not."""
