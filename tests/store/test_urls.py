"""URLs that are written once and used again."""

from __future__ import annotations

from store.domain.urls import CACHED_KINDS, CACHED_URLS, UrlCache, UrlFilter, UrlWriter
from store.metadata.rows import Instance, ObjectRow, Role
from tests.store.harness import ARCHIVE, LOCAL, Tams

ROW = ObjectRow("o", Role.MEDIA, "f", 0, (Instance(LOCAL, "k", "video/mp2t"),), version=7)


def test_what_was_written_lasts_for_its_era() -> None:
    cache = UrlCache()
    first = cache.written("kind", 1)
    assert cache.written("kind", 1) is first
    assert cache.written("other", 1) is not first
    assert cache.written("kind", 2) is not first


def test_what_was_written_is_bounded() -> None:
    cache = UrlCache()
    first = cache.written(0, 1)
    for number in range(1, CACHED_KINDS + 1):
        cache.written(number, 1)
    assert cache.written(0, 1) is not first
    full = cache.written("kind", 1)
    full.update({number: b"" for number in range(CACHED_URLS)})
    assert cache.written("kind", 1) == {}


async def test_while_an_era_lasts_urls_stay_and_then_they_change(tams: Tams) -> None:
    media = tams.store.backends[LOCAL]
    start = 1_000_000_000
    seen = {}
    for now_s in range(start, start + 2000, 50):
        url = media.get_url("k", version=None, now_s=now_s, content_type="video/mp2t")
        assert seen.setdefault(media.era(now_s), url) == url
    assert len(set(seen.values())) == len(seen) > 1


async def test_requests_that_differ_do_not_share_urls(tams: Tams) -> None:
    backends, cache = tams.store.backends, UrlCache()

    def written(wanted: UrlFilter, row: ObjectRow = ROW, now_s: int = 1_000_000_000) -> bytes:
        plain = UrlWriter(backends, None, wanted, now_s).write(row)
        assert UrlWriter(backends, None, wanted, now_s, cache).write(row) == plain
        assert UrlWriter(backends, None, wanted, now_s, cache).write(row) == plain
        return plain

    moved = ROW._replace(instances=(Instance(ARCHIVE, "k", "video/mp2t"),), version=8)
    found = [
        written(UrlFilter()),
        written(UrlFilter(verbose=True)),
        written(UrlFilter(presigned=True)),
        written(UrlFilter(), moved),
        written(UrlFilter(), now_s=1_000_009_000),
    ]
    assert len(set(found)) == len(found)
    assert written(UrlFilter(labels=frozenset())) == b"[]"


async def test_objects_that_share_a_version_do_not_share_urls(tams: Tams) -> None:
    """Two proxies number what they write to VAST by their clocks, which hardly ever agree; but they may."""
    backends, cache = tams.store.backends, UrlCache()
    other = ROW._replace(id="p", instances=(Instance(LOCAL, "another", "video/mp2t"),))
    rows, now_s = [ROW, other, ROW], 1_000_000_000
    alone = [UrlWriter(backends, None, UrlFilter(), now_s).write(row) for row in rows]
    assert alone[0] != alone[1]
    for _ in range(2):
        assert UrlWriter(backends, None, UrlFilter(), now_s, cache).write_all(rows) == alone
