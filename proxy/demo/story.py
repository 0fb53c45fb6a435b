"""The story: the newsroom stores a programme, the sports desk sees nothing of it until it is shared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from proxy.demo import media
from proxy.demo.archive import archive
from proxy.demo.client import Client, path
from proxy.demo.ingest import Essence, allocate, create, store
from proxy.demo.scene import NEWS, SPORT_READS, Scene

PAGE = 5
"""Small pages, so that outgest follows links."""


def play(scene: Scene, segments: int) -> None:
    """The whole story with that many segments, a row in the report for each thing that was tried.

    Raises `Refused` where the story cannot go on, `NoMediaLibrary`, and `httpx.TransportError`.
    """
    log_in(scene, scene.news)
    with scene.report.bar("Encoding H.264 and AAC", segments * media.SEGMENT_FRAMES) as made:
        objects = media.make(segments, made)
    object_ids = ingest(scene, objects)
    log_in(scene, scene.sport)
    seen = everything(scene.sport)
    try_what_is_hidden(scene, seen)
    share(scene)
    try_what_is_shared(scene, seen)
    try_writes(scene)
    outgest(scene, object_ids, objects)
    archive(scene, object_ids, objects)


def log_in(scene: Scene, client: Client) -> None:
    """Get a token by client credentials."""
    client.login()
    came = f"a token for {client.expires_in_s} s"
    scene.report.row(client.client_id, "log in", came, client.expires_in_s > 0)


def ingest(scene: Scene, objects: Sequence[bytes]) -> list[str]:
    """The newsroom stores the programme. Returns the objects' ids, in order."""
    news, programme, report = scene.news, scene.programme, scene.report
    create(news, programme, [NEWS])
    report.row(news.client_id, "create video, audio, multi", "201 x 3", True)
    places = allocate(news, programme, len(objects))
    came = f"{len(places)} signed URLs"
    report.row(news.client_id, "allocate storage", came, len(places) == len(objects))
    uploads, posts = [], []
    with report.bar("Uploading and registering", len(objects)) as done:
        for uploaded, registered in store(news, programme, places, objects):
            uploads.append(uploaded)
            posts.append(registered)
            done(1)
    size_mb = sum(map(len, objects)) / 1e6
    scene.statuses(news, f"upload {size_mb:.1f} MB", uploads, 200)
    scene.statuses(news, "register the segments", posts, 201)
    return [str(place["object_id"]) for place in places]


def everything(client: Client) -> frozenset[str]:
    """The ids of all flows and sources that a client is shown."""
    return frozenset(item["id"] for kind in ("flows", "sources") for item in client.listing(path(kind)))


def try_what_is_hidden(scene: Scene, seen: frozenset[str]) -> None:
    """The sports desk looks for what has not been shared."""
    sport, programme = scene.sport, scene.programme
    essences = (programme.video, programme.audio, programme.multi)
    found = seen & {name for e in essences for name in (e.flow_id, e.source_id)}
    came = f"{len(found)} of them listed" if found else "nothing of it"
    scene.report.row(sport.client_id, "list flows and sources", came, not found)
    paths = [p for e in essences for p in _paths(e)]
    scene.statuses(sport, "get flows, sources, segments", _gets(sport, paths), 404)


def share(scene: Scene) -> None:
    """The newsroom adds a class to the tags of the multi flow, its source and the video flow."""
    multi, video = scene.programme.multi, scene.programme.video
    shared = [("flows", multi.flow_id), ("sources", multi.source_id), ("flows", video.flow_id)]
    came = [
        scene.news.call("PUT", path(kind, name, "tags", "auth_classes"), [NEWS, SPORT_READS]).status_code
        for kind, name in shared
    ]
    scene.statuses(scene.news, "share multi, source, video", came, 204)


def try_what_is_shared(scene: Scene, seen: frozenset[str]) -> None:
    """The sports desk looks again."""
    sport, report = scene.sport, scene.report
    multi, video, audio = scene.programme.multi, scene.programme.video, scene.programme.audio
    expected = {multi.flow_id: "multi", multi.source_id: "its source", video.flow_id: "video"}
    fresh = everything(sport) - seen
    named = [name for key, name in expected.items() if key in fresh]
    came = ", ".join(named) + (f", and {len(fresh - set(expected))} more" if fresh - set(expected) else "")
    report.row(sport.client_id, "list flows and sources", came or "nothing new", fresh == set(expected))
    members = _members(sport.expect(200, "GET", path("flows", multi.flow_id)))
    roles = ", ".join(role for _, role in members) or "nothing"
    redacted = members == [(video.flow_id, "video")]
    came = f"{roles}{'; audio left out' if redacted else ''}"
    report.row(sport.client_id, "get what multi collects", came, redacted)
    scene.statuses(sport, "get audio and its source", _gets(sport, _paths(audio)[:2]), 404)


def try_writes(scene: Scene) -> None:
    """The sports desk tries to change what it may only read."""
    sport, flow = scene.sport, path("flows", scene.programme.multi.flow_id)
    came = [
        sport.call("PUT", flow + path("label"), "Ours now").status_code,
        sport.call("POST", flow + path("storage"), {"limit": 1}).status_code,
        sport.call("DELETE", flow).status_code,
    ]
    scene.statuses(sport, "rename, extend, delete multi", came, 403)


def outgest(scene: Scene, object_ids: Sequence[str], objects: Sequence[bytes]) -> None:
    """The sports desk gets the pictures of a timerange, and checks what it got."""
    sport, programme, report = scene.sport, scene.programme, scene.report
    first, stop = cut(len(objects))
    numbers = range(first // media.SEGMENT_FRAMES, -(-stop // media.SEGMENT_FRAMES))
    query = {
        "timerange": programme.timerange(first, stop),
        "presigned": "true",
        "include_object_timerange": "true",
        "limit": str(PAGE),
    }
    found = sport.listing(path("flows", programme.multi.flow_id, "segments"), query)
    expected = [programme.listed(number, object_ids[number]) for number in numbers]
    right = [{name: segment.get(name) for name in expected[0]} for segment in found] == expected
    report.row(
        sport.client_id, f"list {_seconds(first)} s to {_seconds(stop)} s", f"{len(found)} segments", right
    )
    got = []
    with report.bar("Downloading", len(found)) as done:
        for segment in found:
            got.append(sport.download(segment["get_urls"][0]["url"]))
            done(1)
    same = sum(data == objects[number] for number, data in zip(numbers, got, strict=False))
    whole = len(got) == len(numbers) == same
    report.row(sport.client_id, "compare byte for byte", f"{same} of {len(numbers)} the same", whole)
    try:
        came, right = judge(media.examine(b"".join(got)), first, stop)
    except media.NotDecodable as exc:
        came, right = str(exc), False
    report.row(sport.client_id, "decode, compare each frame", came, right)


def cut(segments: int) -> tuple[int, int]:
    """The pictures to outgest, the last exclusive: neither end is where a segment starts."""
    frames = segments * media.SEGMENT_FRAMES
    stop = frames * 23 // 50 // media.SEGMENT_FRAMES * media.SEGMENT_FRAMES + 40
    return frames * 11 // 50, stop


def judge(content: media.Content, first: int, stop: int) -> tuple[str, bool]:
    """What was decoded, and whether it is those pictures, each at its time, and all the sound with them."""
    begin, end = media.picture_ticks(first), media.picture_ticks(stop)
    pictures = [p for p in content.pictures if begin <= p.ticks < end]
    right = [(p.ticks, p.number) for p in pictures] == [
        (media.picture_ticks(number), number) for number in range(first, stop)
    ]
    sound = content.audio
    gapless = all(b - a == media.CODED_TICKS for a, b in zip(sound, sound[1:], strict=False))
    covered = bool(sound) and sound[0] <= begin and sound[-1] + media.CODED_TICKS >= end
    flaws = [("pictures wrong", right), ("sound has gaps", gapless), ("sound is short", covered)]
    wrong = ", ".join(flaw for flaw, absent in flaws if not absent)
    says = f": {wrong}" if wrong else " and sound right"
    return f"{len(pictures)} pictures{says}", not wrong


def _paths(essence: Essence) -> list[str]:
    flow = path("flows", essence.flow_id)
    return [flow, path("sources", essence.source_id), flow + path("segments")]


def _seconds(pictures: int) -> str:
    seconds, rest = divmod(pictures, media.FRAME_RATE)
    return f"{seconds}.{rest * 100 // media.FRAME_RATE:02}"


def _gets(client: Client, paths: Iterable[str]) -> list[int]:
    return [client.call("GET", one).status_code for one in paths]


def _members(flow: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["id"], item.get("role", "")) for item in flow.get("flow_collection", [])]
