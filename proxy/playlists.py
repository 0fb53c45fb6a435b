"""Playlists for players that can only be given an address: a token in it goes on to what is below. Pure."""

from __future__ import annotations

import re

from proxy.identity.credentials import URL_PARAMETER

_URI = re.compile(rb'URI="(\.\./[^"]*)"')


def with_token(playlist: bytes, query: bytes) -> bytes:
    """The playlist with the token of the raw query on every address of ours; media have signatures."""
    name = URL_PARAMETER + b"="
    token = next((part for part in query.split(b"&") if part.startswith(name)), None)
    if token is None:
        return playlist
    lines = [
        _marked(line, token) if line.startswith(b"../") else _tag(line, token)
        for line in playlist.split(b"\n")
    ]
    return b"\n".join(lines)


def _marked(uri: bytes, token: bytes) -> bytes:
    return uri + (b"&" if b"?" in uri else b"?") + token


def _tag(line: bytes, token: bytes) -> bytes:
    return _URI.sub(lambda found: b'URI="' + _marked(found[1], token) + b'"', line)
