"""Media URLs in an upstream's answers: those on hidden storage backends are left out, those on the upstream's
own origin lead through the proxy, all others stay byte for byte. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.upstream.documents import Classes, Document, classes_of, sees
from proxy.upstream.protocol import View

_VERBOSE = (
    "storage_id",
    "controlled",
    "store_type",
    "provider",
    "region",
    "availability_zone",
    "store_product",
    "tags",
)
Relayed = Callable[[str, str, bool], str | None]
"""A method, a URL and whether it is signed to the URL for the client, None where it is the URL itself."""


@dataclass(frozen=True, slots=True)
class Backend:
    """As `protocol.BackendFact`, with its label."""

    id: str
    classes: Classes
    default: bool
    label: str | None = None


def backend_of(document: Document) -> Backend:
    """A storage backend as GET /service/storage-backends lists it. KeyError or TypeError for none."""
    label = document.get("label")
    return Backend(
        str(document["id"]),
        classes_of(document),
        document.get("default_storage") is True,
        label if isinstance(label, str) else None,
    )


def readable_by(view: View | None, backend: Backend) -> bool:
    """Whether a caller may have URLs on a backend; an untagged one is everybody's."""
    return not backend.classes or sees(view, backend.classes)


@dataclass(frozen=True, slots=True)
class UrlRule:
    """What becomes of `get_urls`. `readable`, `hidden`: storage backends; nothing hidden: all entries stay.

    `verbose`: the client asked for the backends' properties. `unsigned_only`: it asked for unsigned URLs.
    """

    readable: tuple[Backend, ...]
    hidden: tuple[Backend, ...]
    verbose: bool
    unsigned_only: bool
    relayed: Relayed

    @classmethod
    def of(
        cls,
        backends: Iterable[Backend],
        view: View | None,
        query: Sequence[tuple[str, str]],
        relayed: Relayed,
    ) -> UrlRule:
        """The rule for one request."""
        listed = tuple(backends)
        asked = {name: value.lower() for name, value in query}
        return cls(
            tuple(b for b in listed if readable_by(view, b)),
            tuple(b for b in listed if not readable_by(view, b)),
            asked.get("verbose_storage") == "true",
            asked.get("presigned") == "false",
            relayed,
        )

    def admits(self, entry: Document) -> bool:
        """Whether an entry may be seen. One that does not tell where it lies goes by its label, and is
        hidden when that tells nothing either (TAMS 8.2 object-core: an entry is controlled unless it says
        otherwise)."""
        storage_id, label = entry.get("storage_id"), entry.get("label")
        if storage_id is not None:
            return any(backend.id == storage_id for backend in self.readable)
        if entry.get("controlled") is False:
            return True
        return (
            label is not None
            and any(backend.label == label for backend in self.readable)
            and all(backend.label != label for backend in self.hidden)
        )

    def entries(self, given: object) -> list[Document]:
        """`get_urls` as the client may have them."""
        found = []
        for entry in given if isinstance(given, list) else []:
            if isinstance(entry, dict) and (not self.hidden or self.admits(entry)):
                kept = self._told(entry)
                if kept is not None:
                    found.append(kept)
        return found

    def _told(self, entry: Document) -> Document | None:
        if self.hidden and not self.verbose:
            entry = {name: value for name, value in entry.items() if name not in _VERBOSE}
        url = entry.get("url")
        if not isinstance(url, str):
            return None
        relayed = self.relayed("GET", url, entry.get("presigned") is True)
        if relayed is None:
            return entry
        # Whatever it was at the upstream, through the proxy it is signed.
        return None if self.unsigned_only else {**entry, "url": relayed, "presigned": True}

    def apply(self, document: Document) -> Document:
        """A segment or an object with the URLs that the client may have."""
        result = dict(document)
        if "get_urls" in result:
            result["get_urls"] = self.entries(result["get_urls"])
        init = result.get("init_object")
        if isinstance(init, dict) and "get_urls" in init:
            result["init_object"] = {**init, "get_urls": self.entries(init["get_urls"])}
        return result


def uploads(document: Document, relayed: Relayed) -> Document:
    """The answer of POST storage, its URLs to upload to leading through the proxy where they must."""
    objects = document.get("media_objects")
    return {**document, "media_objects": [_upload(item, relayed) for item in objects or []]}


def _upload(item: Any, relayed: Relayed) -> Any:
    result = dict(item)
    for name, request in item.items():
        if name.startswith("put_") and isinstance(request, dict) and isinstance(request.get("url"), str):
            url = relayed("PUT", request["url"], item.get("presigned") is True)
            if url is not None:
                result = {**result, name: {**request, "url": url}, "presigned": True}
    return result
