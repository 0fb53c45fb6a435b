"""Requests that nobody would send, drawn by lot: JSON with its parts exchanged, and bytes with theirs."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    2**200,
    1e308,
    0.1,
    "",
    "x" * 5000,
    "\x00",
    "\ud800",
    "../../etc/passwd",
    "_",
    "()",
    "[0:0_",
    "[5:0_1:0)",
    "[-9223372036:0_9223372036854775807:999999999]",
    "urn:x-nmos:format:video",
    "news,sport",
    "*",
    [],
    {},
    [None],
    [[[]]],
    {"": {"": ""}},
    ["sport", "sport"],
    [1, "news"],
)
WORDS = (
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\x00",
    b"\xff",
    b"%00",
    b"%2F",
    b"%5C",
    b"..",
    b"//",
    b"?",
    b"#",
    b";",
    b",",
    b"Host: other\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: x, chunked\r\n",
    b"Connection: Authorization\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Range: bytes=0-,-1,5-4\r\n",
    b"If-None-Match: *\r\n",
    b"X-Forwarded-User: admin\r\n",
    b"X-HTTP-Method-Override: DELETE\r\n",
    b"Authorization: Basic Og==\r\n",
    b"Cookie: token=x\r\n",
    b"auth_classes=sport",
    b"tag_exists.auth_classes=true",
    b"\xed\xa0\x80",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
)


def changed(document: Any, random_: random.Random) -> Any:
    """The document with one to three of its parts exchanged, left out or added."""
    document = copy.deepcopy(document)
    for _ in range(random_.randint(1, 3)):
        document = _change(document, random_)
    return document


def text_of(document: Any, random_: random.Random) -> bytes:
    """As JSON, now and then with names given twice, values that JSON lacks, or cut off."""
    text = json.dumps(document).encode()
    fate = random_.random()
    if fate < 0.05:
        return text.replace(b"{", b'{"id": 1, "id": 2, ', 1)
    if fate < 0.1:
        return text.replace(b"null", b"NaN").replace(b"0", b"-0", 1)
    if fate < 0.15:
        return text[: random_.randrange(len(text) + 1)]
    return text


def mangled(request: bytes, random_: random.Random) -> bytes:
    """The bytes with one or two places overwritten, cut out, doubled, or with a word put in."""
    for _ in range(random_.randint(1, 2)):
        at = random_.randrange(len(request) + 1)
        to = min(len(request), at + random_.randint(1, 20))
        match random_.randrange(5):
            case 0:
                request = request[:at] + bytes([random_.randrange(256)]) + request[at + 1 :]
            case 1:
                request = request[:at] + request[to:]
            case 2:
                request = request[:to] + request[at:]
            case 3:
                request = request[:at] + random_.choice(WORDS) + request[at:]
            case _:
                request = _after_a_line(request, random_.choice(WORDS), random_)
    return request


def _after_a_line(request: bytes, word: bytes, random_: random.Random) -> bytes:
    lines = request.split(b"\r\n")
    at = random_.randrange(1, len(lines) + 1)
    return b"\r\n".join([*lines[:at], word.removesuffix(b"\r\n"), *lines[at:]])


def _change(document: Any, random_: random.Random) -> Any:
    if isinstance(document, dict) and document and random_.random() < 0.85:
        name = random_.choice(list(document))
        match random_.randrange(6):
            case 0:
                del document[name]
            case 1:
                document[random_.choice(["", "auth_classes", "\x00", "x" * 300])] = document[name]
            case _:
                document[name] = _change(document[name], random_)
        return document
    if isinstance(document, list) and document and random_.random() < 0.7:
        at = random_.randrange(len(document))
        document[at] = _change(document[at], random_)
        if random_.random() < 0.3:
            document.append(copy.deepcopy(document[at]))
        return document
    return copy.deepcopy(random_.choice(VALUES))
