"""Objects on their way into the store, several at once; a segment for each when it is there."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from store.client.protocol import CHUNK_BYTES
from store.client.tams import Client, Refused, path, said
from store.timerange import format_timestamp
from store.tools.errors import ToolError
from store.tools.pieces import Piece
from store.tools.timing import Place

EXPIRED = (400, 401, 403)
"""What a signed URL answers that is too old."""


class Uploader:
    """Stores pieces as segments of one flow. Leaving it waits for all of them, and raises what failed first.

    `stored` is told the size of each. `inits`: ids of init objects by the digest of their bytes.
    """

    def __init__(
        self, client: Client, flow_id: str, container: str, jobs: int, stored: Callable[[int], None]
    ) -> None:
        self._client = client
        self._flow_id = flow_id
        self._container = container
        self._jobs = jobs
        self._stored = stored
        self._pool = ThreadPoolExecutor(jobs)
        self._pending: deque[Future[None]] = deque()
        self.inits: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is on its way is stored, so that the next run need not do it again.
        self._pool.shutdown(
            wait=True, cancel_futures=kind is not None and issubclass(kind, KeyboardInterrupt)
        )
        if value is None:
            while self._pending:
                self._pending.popleft().result()

    def store(self, piece: Piece, place: Place, key_frames: int) -> None:
        """Begin to store a piece, when not too many are on their way. Raises what went wrong before."""
        body: dict[str, Any] = {"timerange": str(place.timerange), "key_frame_count": key_frames}
        if place.ts_offset_ns:
            body["ts_offset"] = format_timestamp(place.ts_offset_ns)
        if piece.init is not None:
            body["init_object_id"] = self._init(piece.init)
        while len(self._pending) >= 2 * self._jobs or (self._pending and self._pending[0].done()):
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._one, piece, body))

    def know_init(self, object_id: str, urls: Sequence[Mapping[str, Any]]) -> None:
        """Use an init object again that an earlier run stored."""
        if urls and object_id not in self.inits.values():
            self.inits[_digest(self._client.download(urls[0]["url"]))] = object_id

    def _init(self, data: bytes) -> str:
        digest = _digest(data)
        if digest not in self.inits:
            self.inits[digest] = self._put(data, {"content_type": self._container})
        return self.inits[digest]

    def _one(self, piece: Piece, body: dict[str, Any]) -> None:
        object_id = self._put(piece.media, {})
        segments = path("flows", self._flow_id, "segments")
        answer = self._client.call("POST", segments, body | {"object_id": object_id})
        if answer.status_code != 201 and not self._is_there(segments, object_id):
            raise Refused(
                f"{piece.name}: the segment {body['timerange']} is answered {answer.status_code}: "
                f"{said(answer)}",
                answer.status_code,
            )
        self._stored(piece.size_bytes)

    def _is_there(self, segments: str, object_id: str) -> bool:
        """Whether an attempt whose answer was lost had registered it."""
        answer = self._client.call("GET", segments, query={"object_id": object_id, "accept_get_urls": ""})
        return answer.status_code == 200 and bool(answer.json())

    def _put(self, media: bytes | Path, more: Mapping[str, str]) -> str:
        """The id of a new object with these bytes."""
        asked = {"limit": 1, **more}
        for last in (False, True):
            found = self._client.expect(201, "POST", path("flows", self._flow_id, "storage"), asked)
            (place,) = found["media_objects"]
            answer = self._sent(place, media)
            if answer.is_success:
                return str(place["object_id"])
            if last or answer.status_code not in EXPIRED:
                raise ToolError(f"an upload is answered {answer.status_code}: {said(answer)}")
        raise AssertionError("unreachable")

    def _sent(self, place: Mapping[str, Any], media: bytes | Path) -> Any:
        if isinstance(media, bytes):
            return self._client.upload(place, media, len(media))
        with media.open("rb") as file:
            pieces = iter(lambda: file.read(CHUNK_BYTES), b"")
            return self._client.upload(place, pieces, media.stat().st_size)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
