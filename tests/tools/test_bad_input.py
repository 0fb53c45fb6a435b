"""What is wrong with media, flows and tokens is said, is a failure, and can be gone on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("av", reason="PyAV reads and makes the media")

from proxy.commands.token import clear_secret  # noqa: E402
from store.client.protocol import Policy  # noqa: E402
from store.client.tams import Client, Fixed, Refused, fetch  # noqa: E402
from store.tools import connection, ingest, pieces  # noqa: E402
from store.tools.cutting import cut  # noqa: E402
from store.tools.flows import Naming, Wanted  # noqa: E402
from tests.tools.film import american, look, make, only, tone, turned  # noqa: E402
from tests.tools.places import Place, running  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running("files", tmp_path_factory.mktemp("files")) as found:
        yield found


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("film"))


@pytest.fixture
def playlist(film: Path, tmp_path: Path) -> Path:
    return cut(film, tmp_path, container="mp2t", seconds=2).playlist


def without(playlist: Path, name: str) -> None:
    """Take a segment out of a playlist."""
    lines = playlist.read_text().split("\n")
    at = lines.index(name)
    playlist.write_text("\n".join(lines[: at - 1] + lines[at + 1 :]))


def spoil(path: Path) -> None:
    path.write_bytes(b"no media " * 100)


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda folder: spoil(folder / "film.mp4"), "cannot be cut: Invalid data"),
        (lambda folder: (folder / "film.mp4").write_bytes(b""), "cannot be cut"),
        (lambda folder: None, "there is no such file or folder"),
        (lambda folder: (folder / "film.mp4").mkdir(), "there are no segments in it"),
    ],
)
def test_what_is_no_media_is_said(
    place: Place, tmp_path: Path, prepare: Callable[[Path], None], says: str
) -> None:
    prepare(tmp_path)
    result = place.run("ingest", str(tmp_path / "film.mp4"), "--auth-class", "news")
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stdout == ""


def test_a_gap_stops_the_work_which_goes_on_when_told_what_to_do(place: Place, playlist: Path) -> None:
    without(playlist, "000001.ts")
    first = place.run("ingest", str(playlist), "--auth-class", "news")
    assert first.exit_code == 1
    assert "000002.ts" in first.stderr
    assert "a gap of 2:0 s at 3:0" in first.stderr
    assert "--gaps" in first.stderr
    (kept,) = place.json("ingest", str(playlist), "--auth-class", "news", "--gaps", "keep")["flows"]
    assert (kept["segments_there_before"], kept["segments_stored"]) == (1, 1)
    assert [s["timerange"] for s in place.json("ls", "segments", kept["flow_id"])] == [
        "[1:0_3:0)",
        "[5:0_7:0)",
    ]


def test_a_gap_can_be_closed_and_what_is_missing_of_a_flow_is_said(
    place: Place, playlist: Path, tmp_path: Path
) -> None:
    without(playlist, "000001.ts")
    classes = ("--auth-class", "news")
    (closed,) = place.json("ingest", str(playlist), *classes, "--gaps", "close")["flows"]
    assert closed["timerange"] == "[1:0_5:0)"
    (gappy,) = place.json("ingest", str(playlist), *classes, "--gaps", "keep", "--fresh")["flows"]
    target = tmp_path / "out.mp4"
    refused = place.run("outgest", gappy["flow_id"], str(target))
    assert refused.exit_code == 1
    assert "the flow has nothing in [3:0_5:0)" in refused.stderr
    assert not target.exists()
    place.json("outgest", gappy["flow_id"], str(target), "--gaps", "close")
    assert look(target).numbers == [*range(50), *range(100, 150)]
    assert look(target).is_steady()


def test_a_segment_of_another_kind_is_refused_by_name(place: Place, film: Path, playlist: Path) -> None:
    other = playlist.parent / "other"
    other.mkdir()
    made = cut(film, other, container="mp4", seconds=2).playlist
    whole = (made.parent / "init.mp4").read_bytes() + (made.parent / "000001.m4s").read_bytes()
    (playlist.parent / "000001.ts").write_bytes(whole)
    result = place.run("ingest", str(playlist), "--auth-class", "news")
    assert result.exit_code == 1
    assert "000001.ts (number 1) is video/mp4" in result.stderr
    assert "before is video/mp2t" in result.stderr


def test_a_segment_that_cannot_be_read_stops_and_the_next_run_goes_on(place: Place, playlist: Path) -> None:
    last = playlist.parent / "000002.ts"
    good = last.read_bytes()
    spoil(last)
    result = place.run("ingest", str(playlist), "--auth-class", "news")
    assert result.exit_code == 1
    assert "000002.ts (number 2) cannot be read as media" in result.stderr
    last.write_bytes(good)
    (done,) = place.json("ingest", str(playlist), "--auth-class", "news")["flows"]
    assert (done["segments_there_before"], done["segments_stored"]) == (1, 2)


def test_a_flow_id_of_something_else_is_refused(place: Place, film: Path, playlist: Path) -> None:
    (flow,) = place.json("ingest", str(film), "--auth-class", "news", "--container", "mp4")["flows"]
    result = place.run("ingest", str(playlist), "--auth-class", "news", "--flow-id", flow["flow_id"])
    assert result.exit_code == 1
    assert f"the flow {flow['flow_id']} is there already, and is another one: container is" in result.stderr


def test_flows_that_do_not_go_together_are_not_edited(place: Place, film: Path) -> None:
    classes = ("--auth-class", "news")
    ids = [
        place.json("ingest", str(film), *classes, "--container", kind)["flows"][0]["flow_id"]
        for kind in ("mp2t", "mp4")
    ]
    result = place.run("edit", *ids, *classes)
    assert result.exit_code == 1
    assert "container is video/mp4, not video/mp2t" in result.stderr
    nothing = place.run("edit", f"{ids[0]}@[3:0_20:0)", *classes)
    assert nothing.exit_code == 1
    assert "has nothing in [7:0_20:0)" in nothing.stderr


class Expiring(httpx.BaseTransport):
    """Passes so many calls of the API on with their token; then it has expired."""

    def __init__(self, calls: int) -> None:
        self._left = calls
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if "authorization" in request.headers:
            self._left -= 1
            if self._left < 0:
                return httpx.Response(401, json={"summary": "Token expired"})
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


class Silent:
    def begin(self, name: str, total: int | None) -> Callable[[int], None]:
        return lambda size_bytes: None


def test_a_token_that_expires_midway_is_told_and_the_next_one_goes_on(place: Place, playlist: Path) -> None:
    url = place.server.url
    token = fetch(url, "newsroom", clear_secret(place.server.data, "newsroom"), [])["access_token"]
    plan = ingest.Plan(Naming(str(playlist)), Wanted("film", None, {"auth_classes": ["news"]}), jobs=1)

    def run(transport: httpx.BaseTransport | None) -> ingest.Done:
        with (
            Client(url, Fixed(f"Bearer {token}"), transport) as client,
            httpx.Client() as http,
            pieces.feeds(
                str(playlist),
                pieces.Reader(http, Policy(0, 0)),
                live=False,
                container="auto",
                seconds=2,
                whole=False,
            ) as feeds,
        ):
            (done,) = ingest.run(client, feeds, plan, Silent())
            return done

    # Three flows looked for and made, the first segment allocated and registered.
    with pytest.raises(Refused, match="Token expired") as caught:
        run(Expiring(8))
    assert caught.value.status == 401
    done = run(None)
    assert (done.there, done.stored) == (1, 2)


def test_a_token_that_is_not_taken_says_what_to_do(place: Place) -> None:
    result = place.run("ls", "--client", "", "--token", "old")
    assert result.exit_code == 1
    assert "With a new one, run the same again" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("ls", "--user", "x", "--token", "y", "--client", ""), 2, "exclude each other"),
        (("ls", "--user", "x"), 2, "--password is missing"),
        (("ls", "--user", "x", "--client", ""), 2, "--password is missing"),
        (("ls", "--token", "old"), 1, "With a new one"),
        (("ls", "--token", "x", "--client", "y"), 2, "exclude each other"),
        (("ingest", ""), 1, "MEDIA is empty"),
        (("ls", "--url", "http://127.0.0.1:1", "--client", ""), 2, "Is a TAMS service at"),
        (("show", "no-such-thing"), 1, "there is no such flow or source or object"),
        (("outgest", "no-id", "x.mp4"), 1, "expected a UUID"),
        (("ls", "flows", "--timerange", "soon"), 1, "timerange"),
        (("share", "00000000-0000-4000-8000-000000000000"), 1, "say what to change"),
    ],
)
def test_a_wrong_call_is_told(
    place: Place, arguments: tuple[str, ...], status: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RETRIES", Policy(0, 0))
    result = place.run(*arguments)
    assert (result.exit_code, says in result.stderr) == (status, True), result.stderr


def test_a_playlist_that_says_more_than_there_is_is_told(place: Place, playlist: Path) -> None:
    said = playlist.read_text()
    for span in ("99999999999@0", "1@99999999999", "1@9223372036854775808", "9" * 5000):
        playlist.write_text(said.replace("#EXTINF", f"#EXT-X-BYTERANGE:{span}\n#EXTINF", 1))
        result = place.run("ingest", str(playlist), "--auth-class", "news")
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert "is shorter than its playlist says" in result.stderr or "is not a number" in result.stderr


def test_of_a_file_that_cannot_be_written_nothing_is_left(place: Place, tmp_path: Path) -> None:
    absent = "00000000-0000-4000-8000-000000000000"
    for flow, target, says in (
        (absent, tmp_path / "a.mp4", "404"),
        (absent, tmp_path / "a.doc", "use one of"),
        (absent, tmp_path / "none" / "a.mp4", "no such folder"),
        ("x", tmp_path / "a.mp4", "expected a UUID"),
    ):
        result = place.run("outgest", flow, str(target))
        assert (result.exit_code, says in result.stderr) == (1, True), result.stderr
        assert list(tmp_path.iterdir()) == []


def test_a_live_playlist_is_followed_until_it_ends(place: Place, playlist: Path) -> None:
    lines = playlist.read_text().split("\n")
    first = lines.index("000000.ts") + 1
    versions = iter([lines[: first + 2], lines])
    playlist.write_text("\n".join(lines[:first]))
    with httpx.Client() as http:
        reader = pieces.Reader(http, Policy(0, 0), lambda _: playlist.write_text("\n".join(next(versions))))
        with pieces.feeds(str(playlist), reader, live=True, container="auto", seconds=2, whole=False) as (
            feed,
        ):
            names = [piece.name for piece in feed.pieces()]
    assert names == [f"{n:06}.ts (number {n})" for n in range(3)]
    (done,) = place.json("ingest", str(playlist), "--auth-class", "news", "--live")["flows"]
    assert done["segments_stored"] == 3


def test_a_live_playlist_needs_the_word_for_it(place: Place, playlist: Path) -> None:
    playlist.write_text(playlist.read_text().replace("#EXT-X-ENDLIST", ""))
    result = place.run("ingest", str(playlist), "--auth-class", "news")
    assert result.exit_code == 1
    assert "Follow it with --live" in result.stderr


def test_deleting_and_sharing_do_what_they_say(place: Place, film: Path) -> None:
    (flow,) = place.json("ingest", str(film), "--auth-class", "news", "--fresh")["flows"]
    sport = Place(place.server, "sportdesk")
    assert sport.run("show", flow["flow_id"]).exit_code == 1
    changed = place.json("share", flow["flow_id"], "--class", "sport_ro")
    assert len(changed) == 6
    assert all(each["after"] == ["news", "sport_ro"] for each in changed)
    assert sport.json("show", flow["flow_id"])["id"] == flow["flow_id"]
    assert sport.run("rm", flow["flow_id"], "--yes").exit_code == 1
    place.json("share", flow["flow_id"], "--remove", "sport_ro")
    assert sport.run("show", flow["flow_id"]).exit_code == 1
    assert place.run("rm", flow["flow_id"], "--members", "--yes").exit_code == 0
    assert place.run("show", flow["flow_id"]).exit_code == 1


def test_a_clock_that_starts_again_leaves_no_seam(place: Place, playlist: Path, tmp_path: Path) -> None:
    """The film begins at 1 s: so the clock starts again with the first picture of the last segment."""
    for part in playlist.parent.glob("*.ts"):
        part.write_bytes(turned(part.read_bytes(), (1 << 33) - 5 * 90_000))
    told = place.run("ingest", str(playlist), "--auth-class", "news")
    assert told.exit_code == 0, told.stderr
    assert "000002.ts (number 2): the clock of the stream started again from nought" in told.stderr
    (done,) = place.json("ingest", str(playlist), "--auth-class", "news")["flows"]
    assert (done["segments_there_before"], done["segments_stored"]) == (3, 0)
    assert done["timerange"] == "[95439:717688888_95445:717688888)"
    target = tmp_path / "out.mp4"
    told = place.json("outgest", done["flow_id"], str(target))
    assert told["wrong"] == []
    shown = look(target)
    assert shown.numbers == list(range(150))
    assert shown.is_steady()


def test_sound_with_a_playlist_of_its_own_is_collected_and_comes_out_with_the_pictures(
    place: Place, film: Path, tmp_path: Path
) -> None:
    lines = ["#EXTM3U"]
    for kind in ("video", "audio"):
        folder = tmp_path / kind
        folder.mkdir()
        cut(only(film, kind, tmp_path / f"{kind}.ts"), folder, container="mp4", seconds=2)
    lines.append('#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",URI="audio/index.m3u8"')
    lines += ['#EXT-X-STREAM-INF:BANDWIDTH=300000,AUDIO="a"', "video/index.m3u8"]
    entry = tmp_path / "index.m3u8"
    entry.write_text("\n".join(lines))
    flows = place.json("ingest", str(entry), "--auth-class", "news")["flows"]
    assert [each["format"].rpartition(":")[2] for each in flows] == ["video", "audio", "multi"]
    whole = flows[2]["flow_id"]
    with place.server.client("newsroom") as client:
        text = client.call("GET", f"/flows/{whole}/hls.m3u8").text
    assert f"../{flows[0]['flow_id']}/hls.m3u8" in text
    assert f'URI="../{flows[1]["flow_id"]}/hls.m3u8"' in text
    target = tmp_path / "out.mp4"
    place.json("outgest", whole, str(target), "--gaps", "keep")
    shown = look(target)
    assert shown.numbers == list(range(150))
    assert len(shown.sound) > 270
    again = place.json("ingest", str(entry), "--auth-class", "news")["flows"]
    assert [each["segments_stored"] for each in again] == [0, 0, 0]


def test_a_file_can_be_stored_whole(place: Place, film: Path, tmp_path: Path) -> None:
    (done,) = place.json("ingest", str(film), "--auth-class", "news", "--whole")["flows"]
    (only_one,) = place.json("ls", "segments", done["flow_id"])
    assert only_one["timerange"] == "[1:0_7:0)"
    target = tmp_path / "part.mp4"
    place.json("outgest", done["flow_id"], str(target), "--timerange", "[3:0_5:0)")
    assert look(target).numbers[:50] == list(range(50, 100))


@pytest.mark.parametrize("container", ["mp2t", "mp4"])
def test_times_that_no_nanosecond_can_say_leave_no_seam(place: Place, tmp_path: Path, container: str) -> None:
    """Transport streams have no times before nought, when decoding begins: the flow has the file's own."""
    film = american(tmp_path / "film.mp4", 90)
    asked = ("--auth-class", "news", "--container", container, "--seconds", "1")
    (done,) = place.json("ingest", str(film), *asked)["flows"]
    assert done["timerange"] == "[0:0_3:3000000)"
    listed = [each["timerange"] for each in place.json("ls", "segments", done["flow_id"])]
    assert listed == ["[0:0_1:1000000)", "[1:1000000_2:2000000)", "[2:2000000_3:3000000)"]
    assert place.json("show", done["flow_id"])["essence_parameters"]["frame_rate"] == {
        "numerator": 30_000,
        "denominator": 1001,
    }
    target = tmp_path / "out.mp4"
    told = place.json("outgest", done["flow_id"], str(target))
    assert (told["pictures"], told["wrong"]) == (90, [])


def test_what_cannot_be_cut_can_be_stored_whole(place: Place, tmp_path: Path) -> None:
    sound = str(tone(tmp_path / "tone.wav"))
    refused = place.run("ingest", sound, "--auth-class", "news")
    assert refused.exit_code == 1
    assert "pcm_s16le cannot be cut into segments; store it with --whole" in refused.stderr
    (done,) = place.json("ingest", sound, "--auth-class", "news", "--whole")["flows"]
    assert (done["container"], done["timerange"]) == ("audio/wav", "[0:0_1:0)")
    flow = place.json("show", done["flow_id"])
    assert (flow["codec"], flow["essence_parameters"]["bit_depth"]) == ("audio/x-raw-int", 16)
