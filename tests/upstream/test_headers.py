"""What passes between client and upstream, and how it is rewritten."""

from __future__ import annotations

import pytest

from proxy.errors import BadRequest, BadUpstream, Forbidden
from proxy.upstream.filters import is_made_up, passes
from proxy.upstream.headers import Base, checked, media_request, moved, next_page, path_of
from proxy.upstream.relayed import INTERVAL_S, RelayedUrls
from proxy.upstream.seal import Sealer
from proxy.upstream.versions import features

BASE = Base.of("https://Up.example:443/tams/")
PUBLIC_URL = "http://tams.test"


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://up.example/tams/", Base("https://up.example", "/tams")),
        ("http://up.example:80", Base("http://up.example", "")),
        ("http://up.example:8080/", Base("http://up.example:8080", "")),
        ("http://[::1]:8080/x", Base("http://[::1]:8080", "/x")),
    ],
)
def test_a_base_is_read(url: str, base: Base) -> None:
    assert Base.of(url) == base


@pytest.mark.parametrize(
    "url", ["", "up.example", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x#y", "http://x:y"]
)
def test_what_is_no_base_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Base.of(url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://up.example/media/x?sig=%2F", "/media/x?sig=%2F"),
        ("https://UP.example:443/media/x", "/media/x"),
        ("https://up.example", "/"),
        ("http://up.example/media/x", None),
        ("https://up.example:444/x", None),
        ("https://up.example.evil/x", None),
        ("https://up.example@evil.example/x", None),
        ("https://user@up.example/x", None),
        ("//up.example/x", None),
        ("s3://up.example/x", None),
        ("https://up.example:x/y", None),
        ("https://[::1/x", None),
    ],
)
def test_only_urls_on_the_origin_itself_have_a_target(url: str, target: str | None) -> None:
    assert BASE.target(url) == target


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None),
        ({"link": '<https://up.example/tams/flows?a=1&page=x%20y>; rel="next"'}, (("page", "x y"),)),
        ({"link": "<?page=2>; rel=next"}, (("page", "2"),)),
        ({"link": '</x?page=1>; rel="prev", </x?page=3>; title="a, b"; rel="last next"'}, (("page", "3"),)),
        ({"link": '</x?page=1>; rel="prev"'}, None),
        ({"link": '</x?a=1>; rel="next"'}, None),
        ({"link": '</x?a=1>; rel="next"', "x-paging-nextkey": "k"}, (("page", "k"),)),
        ({"x-paging-nextkey": "k"}, (("page", "k"),)),
        ({"link": "nonsense <>;;, rel=next"}, None),
    ],
)
def test_the_next_page_is_what_is_new_in_its_query(
    headers: dict[str, str], found: tuple[tuple[str, str], ...] | None
) -> None:
    assert next_page([("a", "1")], headers) == found


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("https://up.example/tams/flow-delete-requests/x", f"{PUBLIC_URL}/flow-delete-requests/x"),
        ("/tams/flow-delete-requests/x", f"{PUBLIC_URL}/flow-delete-requests/x"),
        ("https://up.example/elsewhere", None),
        ("https://evil.example/tams/x", None),
        ("//evil.example/tams/x", None),
        ("", None),
    ],
)
def test_a_location_leads_to_the_proxy_or_nowhere(location: str, found: str | None) -> None:
    assert moved(location, BASE, PUBLIC_URL) == found


def test_a_path_is_built_anew() -> None:
    assert path_of("/objects/{id}/x", {"id": "a/b?c#d%é ..x"}) == "/objects/a%2Fb%3Fc%23d%25%C3%A9%20..x/x"


@pytest.mark.parametrize("value", ["..", ".", "a/../b", "a\\..\\b", "../", "a/."])
def test_a_step_in_a_path_is_refused(value: str) -> None:
    with pytest.raises(BadRequest):
        path_of("/objects/{id}", {"id": value})


def test_what_the_proxy_reads_itself_does_not_pass() -> None:
    query = [("tag.a", "1"), ("access_token", "x"), ("page", "y"), ("limit", "2")]
    assert checked(query) == [("tag.a", "1")]
    with pytest.raises(BadRequest):
        checked([("a", "1"), ("a", "2")])


def test_only_listed_headers_of_media_pass() -> None:
    given = [(b"range", b"bytes=0-1"), (b"cookie", b"x"), (b"authorization", b"y"), (b"te", b"z")]
    assert media_request(given) == [("range", "bytes=0-1")]


@pytest.mark.parametrize(
    ("version", "switches"),
    [
        ("6.0", (False, False, False, False)),
        ("7.0", (False, True, False, False)),
        ("8.0", (True, True, True, False)),
        ("8.2", (True, True, True, True)),
        ("9.3", (True, True, True, True)),
    ],
)
def test_features_follow_the_version(version: str, switches: tuple[bool, ...]) -> None:
    found = features(version)
    assert (found.tag_lists, found.backends, found.instances, found.profiles) == switches
    assert found.filters is found.tag_lists


@pytest.mark.parametrize(
    ("operation", "names", "lacks"),
    [
        ("GET_flows", ["label", "reverse_order"], "`reverse_order` in lists"),
        ("GET_sources", ["sort_by"], "`sort_by` in lists"),
        ("GET_flows-flowId-segments", ["reverse_order", "timerange"], None),
        ("GET_flows-flowId-segments", ["storage_backend_tag_exists.x"], "`storage_backend_tag_exists.x`"),
        ("GET_objects", ["flow_tag.x"], "`flow_tag.x`"),
        ("GET_flows-flowId", ["sort_by"], None),
    ],
)
def test_what_older_versions_cannot_be_asked_is_named(
    operation: str, names: list[str], lacks: str | None
) -> None:
    assert features("7.1").lacks_of(operation, names) == lacks
    assert features("8.0").lacks_of(operation, names) is None


@pytest.mark.parametrize(
    ("query", "is_passed"),
    [
        ([], True),
        ([("tag.a", "x")], True),
        ([("tag.a", "y,x")], True),
        ([("tag.b", "2,3")], True),
        ([("tag.b", "1,2")], True),
        ([("tag.b", "3")], False),
        ([("tag.c", "")], False),
        ([("tag.", "x")], False),
        ([("tag.odd", "5")], False),
        ([("collected_by_ids", "p,q")], True),
        ([("collected_by_ids", "q")], False),
        ([("collected_by_ids", "")], False),
        ([("profile_id", "f"), ("status", "growing")], True),
        ([("profile_id", "f"), ("status", "closed")], False),
        ([("tag.a", "x"), ("tag.b", "3")], False),
    ],
)
def test_filters_that_are_made_up_for_find_what_those_of_8_2_find(
    query: list[tuple[str, str]], is_passed: bool
) -> None:
    tags = {"a": "x", "b": ["1", "2"], "odd": 5}
    document = {"tags": tags, "collected_by": ["p"], "profile_id": "f", "status": "growing"}
    assert all(is_made_up(name) for name, _ in query)
    assert passes(query, document) is is_passed
    assert passes([("collected_by_ids", "")], {}) and not passes([("tag.a", "x")], {"tags": None})


@pytest.mark.parametrize("version", ["5.1", "8", "", None, 8.2, "8.2.1", "v8.2", "8.02", "٨.٢"])
def test_other_versions_are_refused(version: object) -> None:
    with pytest.raises(BadUpstream):
        features(version)


class TestRelayedUrls:
    urls = RelayedUrls(Sealer((b"k" * 32,), "m"), BASE, PUBLIC_URL, "one", 900)

    def made(self, now_s: float = 0.0, method: str = "GET") -> tuple[str, str]:
        url = self.urls.make(method, "https://up.example/media/k?sig=1", True, now_s)
        assert url is not None and "up.example" not in url
        path, _, query = url.removeprefix(PUBLIC_URL).partition("?")
        return path, query

    def test_lead_where_they_were_made_for(self) -> None:
        target = self.urls.read("HEAD", *self.made(), 899.0)
        assert (target.method, target.url, target.signed) == ("GET", "/media/k?sig=1", True)

    def test_are_the_same_for_a_while(self) -> None:
        assert self.made(1.0) == self.made(INTERVAL_S - 1.0) != self.made(INTERVAL_S + 1.0)

    def test_of_elsewhere_are_not_made(self) -> None:
        assert self.urls.make("GET", "https://s3.example/x", True, 0.0) is None

    def test_are_refused_when_they_are_not_as_made(self) -> None:
        path, query = self.made()
        other = RelayedUrls(Sealer((b"k" * 32,), "m"), BASE, PUBLIC_URL, "two", 900)
        for urls, method, spoilt, now_s in (
            (self.urls, "GET", (path, query), 900.0 + INTERVAL_S + 1),
            (self.urls, "PUT", (path, query), 0.0),
            (self.urls, "GET", (path + "A", query), 0.0),
            (self.urls, "GET", (path, query[:-1]), 0.0),
            (self.urls, "GET", ("/media/x/y", query), 0.0),
            (other, "GET", (path, query), 0.0),
        ):
            with pytest.raises(Forbidden):
                urls.read(method, *spoilt, now_s)


def test_a_sealed_text_opens_with_any_of_the_keys() -> None:
    old, new = Sealer((b"a" * 32,), "p"), Sealer((b"b" * 32, b"a" * 32), "p")
    assert new.open(old.seal([1, "x"])) == [1, "x"]
    assert new.seal(1) != old.seal(1)
    for other in (Sealer((b"b" * 32,), "p"), Sealer((b"a" * 32,), "q")):
        with pytest.raises(ValueError):
            other.open(old.seal(1))
