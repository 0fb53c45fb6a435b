"""What the server lists for players plays in a real one: hls.js in Chromium, picture by picture."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

pytest.importorskip("av", reason="PyAV reads and makes the media")

from proxy.commands.token import clear_secret  # noqa: E402
from store.client.tams import fetch  # noqa: E402
from tests.end_to_end.server import Server  # noqa: E402
from tests.installed import CACHE, binary  # noqa: E402
from tests.tools.film import HEIGHT, PICTURES, RATE, WIDTH, make  # noqa: E402
from tests.tools.places import Place  # noqa: E402

pytestmark = pytest.mark.slow
HLS = CACHE / "hls" / "node_modules" / "hls.js" / "dist" / "hls.min.js"
PAGE = Path(__file__).with_name("player.html")
TIMEOUT_S = 180
ROUNDED = 1
"""By how many pictures a time may be off, which is told in microseconds."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
)


class Pages(ThreadingHTTPServer):
    """Serves the player's page, and takes its reports."""

    daemon_threads = True

    def __init__(self) -> None:
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Pages

    def do_GET(self) -> None:
        known = {"/": (PAGE, "text/html"), "/hls.js": (HLS, "text/javascript")}
        found = known.get(urlsplit(self.path).path)
        body = b"" if found is None else found[0].read_bytes()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "text/plain" if found is None else found[1])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.reports.put(json.loads(self.rfile.read(length)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def pages() -> Iterator[Pages]:
    server = Pages()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Studio:
    """A server with a film in it, and a player that may ask it."""

    place: Place
    pages: Pages
    film: Path
    browser: Path
    folder: Path

    def token(self) -> str:
        url, data = self.place.server.url, self.place.server.data
        found: str = fetch(url, "newsroom", clear_secret(data, "newsroom"), ["tams-api/read"])["access_token"]
        return found

    def play(self, path: str, until: float, token: str | None) -> dict[str, Any]:
        """What a player shows of a playlist, up to a time of the media element."""
        asked = {"url": self.place.server.url + path, "until": str(until)}
        query = urlencode(asked | ({"token": token} if token else {}))
        profile = f"--user-data-dir={self.folder / 'profile'}"
        process = subprocess.Popen(
            [str(self.browser), *FLAGS, profile, f"{self.pages.origin}/?{query}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return self.pages.reports.get(timeout=TIMEOUT_S)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    browser = binary("chromium") or binary("chromium-browser") or binary("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium (apt-get install chromium)")
    if not HLS.is_file():
        pytest.skip(f"hls.js is not in {CACHE / 'hls'} (npm install --prefix {CACHE / 'hls'} hls.js@1)")
    folder = tmp_path_factory.mktemp("studio")
    with pages() as shown:
        server = Server(folder, {"TAMS_CORS_ORIGINS": json.dumps([shown.origin])})
        server.start()
        try:
            yield Studio(Place(server), shown, make(folder), browser, folder)
        finally:
            server.stop()


def ingested(studio: Studio, *more: str) -> dict[str, Any]:
    done = studio.place.json("ingest", str(studio.film), "--auth-class", "news", *more)
    (flow,) = done["flows"]
    return dict(flow)


def numbers(report: dict[str, Any]) -> list[int]:
    """The pictures that were shown, in order; a busy machine leaves some out."""
    assert report["error"] is None, report
    assert (report["width"], report["height"]) == (WIDTH, HEIGHT)
    shown = [number for _, number in report["shown"]]
    assert len(shown) > 20, report
    return shown


@pytest.mark.parametrize("container", ["mp2t", "mp4"])
@pytest.mark.parametrize("kind", ["flows", "sources"])
def test_a_film_plays_from_its_first_to_its_last_picture(studio: Studio, container: str, kind: str) -> None:
    flow = ingested(studio, "--container", container)
    id_ = flow["flow_id" if kind == "flows" else "source_id"]
    report = studio.play(f"/{kind}/{id_}/hls.m3u8", 5.9, studio.token())
    shown = numbers(report)
    assert shown == sorted(shown)
    assert shown[0] < 5
    assert shown[-1] >= PICTURES - 5
    # Each picture at its time, whatever the media's own times begin with.
    late = [number - round(time * RATE) for time, number in report["shown"]]
    assert max(late) - min(late) <= ROUNDED, late


def test_an_edit_plays_in_its_order(studio: Studio) -> None:
    flow = ingested(studio)["flow_id"]
    clips = (f"{flow}@[5:0_7:0)", f"{flow}@[1:0_3:0)")
    (made,) = studio.place.json("edit", *clips, "--auth-class", "news", "--label", "swapped")["flows"]
    report = studio.play(f"/flows/{made['flow_id']}/hls.m3u8", 3.9, studio.token())
    shown = numbers(report)
    assert set(shown) <= {*range(100, 150), *range(50)}
    turn = next(place for place, number in enumerate(shown) if number < 50)
    assert shown[:turn] == sorted(shown[:turn])
    assert shown[turn:] == sorted(shown[turn:])
    assert shown[0] >= 100


def test_a_player_that_has_but_an_address_plays_too(studio: Studio) -> None:
    flow = ingested(studio)
    path = f"/sources/{flow['source_id']}/hls.m3u8?{urlencode({'access_token': studio.token()})}"
    shown = numbers(studio.play(path, 3, None))
    assert shown == sorted(shown)


@pytest.mark.parametrize("container", ["mp2t", "mp4"])
def test_addresses_that_lead_to_signed_urls_play_too(studio: Studio, container: str) -> None:
    flow = ingested(studio, "--container", container)
    asked = urlencode({"redirect": "true", "access_token": studio.token()})
    shown = numbers(studio.play(f"/flows/{flow['flow_id']}/hls.m3u8?{asked}", 3, None))
    assert shown == sorted(shown)


def test_live_begins_near_the_end_and_goes_on_as_the_flow_grows(studio: Studio) -> None:
    from store.tools.cutting import cut

    folder = studio.folder / "live"
    folder.mkdir()
    playlist = cut(studio.film, folder, container="mp2t", seconds=2).playlist
    whole = playlist.read_text()
    lines = whole.split("\n")
    playlist.write_text("\n".join(lines[: lines.index("000001.ts") + 1]) + "\n#EXT-X-ENDLIST\n")
    (first,) = studio.place.json("ingest", str(playlist), "--auth-class", "news")["flows"]
    playlist.write_text(whole)
    grown = threading.Timer(3, lambda: studio.place.json("ingest", str(playlist), "--auth-class", "news"))
    grown.start()
    try:
        report = studio.play(f"/flows/{first['flow_id']}/hls.m3u8?live=true", 5.5, studio.token())
    finally:
        grown.join()
    shown = numbers(report)
    assert shown == sorted(shown)
    assert shown[-1] >= 120


def test_without_permission_there_is_nothing_to_play(studio: Studio) -> None:
    flow = ingested(studio)["flow_id"]
    url, data = studio.place.server.url, studio.place.server.data
    other = fetch(url, "sportdesk", clear_secret(data, "sportdesk"), [])["access_token"]
    report = studio.play(f"/flows/{flow}/hls.m3u8", 1, other)
    assert "manifestLoadError" in report["error"]
    assert report["shown"] == []
