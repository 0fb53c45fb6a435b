"""What `tams-proxy serve` says when it starts."""

from __future__ import annotations

import shlex
from pathlib import Path


def banner(url: str, data: Path, *, demo: bool) -> str:
    """Where it is, how to log in, and what to try next."""
    lines = [f"TAMS 8.2 at {url}", f"Tokens at    {url}/token (OAuth2 client credentials)"]
    if demo:
        lines += [
            f"Clients      newsroom, sportdesk, admin; their secrets are in {data / 'clients.secret'}",
            "",
            "Try next, in a second terminal:",
            "  .venv/bin/tams-proxy demo" + _options(url, data),
        ]
    return "\n".join(lines) + "\n"


def _options(url: str, data: Path) -> str:
    """What the demo needs to be told where the server is not where it looks by itself."""
    said = "" if url == "http://127.0.0.1:8000" else f" --url {url}"
    return said if data == Path("data") else f"{said} --data {shlex.quote(str(data))}"
