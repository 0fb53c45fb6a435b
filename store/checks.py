"""Whether a store can be run with settings that are well-formed: told at once, before anything is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from store.media import config
from store.media.signing import Lifetime
from store.settings import StoreSettings


def problems(settings: StoreSettings) -> list[str]:
    """Everything that keeps a store from running with these settings, one sentence each. Looks at the
    data folder, makes nothing."""
    found = [*backend_problems(settings), *_folder_problems(settings.data)]
    named = {each for backend in settings.backends() for each in (backend.id, backend.label)}
    for setting, chosen in (("KEYS", settings.keys.backend), ("STREAMS", settings.streams.backend)):
        if chosen is not None and chosen not in named:
            found.append(f"TAMS_{setting}__BACKEND: there is no storage backend {chosen!r}")
    return found


def backend_problems(settings: StoreSettings) -> list[str]:
    """The same of the storage backends and the lifetime of their URLs alone; no I/O."""
    urls = settings.urls
    try:
        lifetime, found = Lifetime(urls.lifetime_s, urls.shortest_s, urls.interval_s), []
    except ValueError as exc:
        lifetime, found = Lifetime(), [f"TAMS_URLS__LIFETIME_S: {exc}"]
    found += config.problems(settings.backends(), lifetime)
    if urls.lifetime_s > settings.min_object_timeout_s:
        found.append(
            "TAMS_URLS__LIFETIME_S: uploads would still be allowed when their object has been collected"
        )
    return found


def _folder_problems(folder: Path) -> Iterator[str]:
    """What keeps a folder from being made or used, as far as can be seen."""
    try:
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not there.is_dir():
            yield f"TAMS_DATA: {there} is no folder"
    except OSError as exc:
        yield f"TAMS_DATA: {exc.filename}: {exc.strerror}"
