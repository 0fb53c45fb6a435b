"""Two storage backends at once: the newsroom copies to its archive, of which the sports desk sees nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from proxy.demo.client import Client, path
from proxy.demo.scene import NEWS, Scene

COPIES = 3
PATIENCE_S = 60
PAUSE_S = 0.25


def archive(scene: Scene, object_ids: Sequence[str], objects: Sequence[bytes]) -> None:
    """Keep some objects in the archive too, and one there alone. Nothing where the server has no storage
    backend for the newsroom's class beside the default one. Raises `Refused`."""
    places = _backends(scene.news)
    work = next((place for place in places.values() if place.get("default_storage")), None)
    shelf = next((place for place in places.values() if _is_archive(place)), None)
    if work is None or shelf is None:
        return
    few = object_ids[:COPIES]
    listed = shelf["id"] in _backends(scene.sport)
    scene.report.row(
        scene.sport.client_id,
        "list storage backends",
        "the archive too" if listed else "no archive",
        not listed,
    )
    body = {"storage_id": shelf["id"]}
    came = [scene.news.call("POST", _instances(name), body).status_code for name in few]
    scene.statuses(scene.news, "copy objects to the archive", came, 201)
    got = [_from(scene.news, name, shelf["label"]) for name in few]
    same = sum(data == right for data, right in zip(got, objects, strict=False))
    scene.report.row(
        scene.news.client_id, "read them in the archive", f"{same} of {len(few)} the same", same == len(few)
    )
    _seen_by_sport(scene, "where these objects are", few, {work["label"]})
    query = {"storage_id": work["id"]}
    gone = scene.news.call("DELETE", _instances(few[0]), query=query).status_code
    scene.statuses(scene.news, "keep one in the archive alone", [gone], 204)
    _seen_by_sport(scene, "where that one is", few[:1], set())
    data = _from(scene.news, few[0], shelf["label"])
    came_back = "the same" if data == objects[0] else "something else"
    scene.report.row(scene.news.client_id, "read that one", came_back, data == objects[0])


def _seen_by_sport(scene: Scene, tried: str, names: Sequence[str], expected: set[str]) -> None:
    found = [set(_urls(scene.sport, name)) for name in names]
    labels = ", ".join(sorted(set().union(*found))) or "nowhere that it may read"
    scene.report.row(scene.sport.client_id, tried, labels, all(each == expected for each in found))


def _is_archive(place: dict[str, Any]) -> bool:
    classes = place.get("tags", {}).get("auth_classes", [])
    return not place.get("default_storage") and NEWS in ([classes] if isinstance(classes, str) else classes)


def _backends(client: Client) -> dict[str, dict[str, Any]]:
    return {place["id"]: place for place in client.listing(path("service", "storage-backends"))}


def _instances(object_id: str) -> str:
    return path("objects", object_id, "instances")


def _urls(client: Client, object_id: str) -> dict[str, str]:
    """The signed URLs of an object that the client may read, by the label of where they lead."""
    answer = client.expect(200, "GET", path("objects", object_id) + "?presigned=true")
    return {entry["label"]: entry["url"] for entry in answer["get_urls"]}


def _from(client: Client, object_id: str, label: str) -> bytes | None:
    """The object's bytes from one backend, once they are there; None when they do not come."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        url = _urls(client, object_id).get(label)
        if url is not None:
            return client.download(url)
        time.sleep(PAUSE_S)
    return None
