from __future__ import annotations

import base64
import hashlib

import pytest

from store import errors
from store.media.digests import promised
from tests.media.conftest import NOW_S, Place

CONTENT = b"media" * 1000
KEY = "2026/11/21/flow/object"


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


SHA256 = b64(hashlib.sha256(CONTENT).digest())
MD5 = b64(hashlib.md5(CONTENT).digest())
# From the CRC-32 of IEEE 802.3, as S3 and zlib have it.
CRC32_OF_CHECK = b64(bytes.fromhex("cbf43926"))


@pytest.mark.parametrize(
    "headers",
    [
        {"content-md5": MD5},
        {"x-amz-checksum-sha256": SHA256},
        {"x-amz-checksum-sha1": b64(hashlib.sha1(CONTENT).digest())},
        {"content-digest": f"sha-256=:{SHA256}:"},
        {"content-digest": f"unknown=:AA==:, sha-256=:{SHA256}:"},
        {"repr-digest": f"sha-512=:{b64(hashlib.sha512(CONTENT).digest())}:"},
        {"content-md5": MD5, "x-amz-checksum-sha256": SHA256},
        {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="},
        {},
    ],
)
async def test_a_checksum_is_compared_with_what_arrived(place: Place, headers: dict[str, str]) -> None:
    put = place.files.put_url(KEY, content_type="video/mp2t", presigned=True, now_s=NOW_S)
    typed = {"content-type": "video/mp2t", **headers}
    assert (await place.client.put(put.url, content=CONTENT, headers=typed)).status_code == 200
    assert (await place.files.stat(KEY)) is not None
    await place.files.delete([KEY])
    known = {name for name in headers if name != "x-amz-checksum-crc64nvme"}
    broken = await place.client.put(put.url, content=CONTENT[:-1] + b"?", headers=typed)
    assert broken.status_code == (400 if known else 200)
    assert (await place.files.stat(KEY) is None) == bool(known)


def test_crc32_is_the_one_of_s3() -> None:
    (found,) = promised({"x-amz-checksum-crc32": CRC32_OF_CHECK})
    found.running.update(b"12345")
    found.running.update(b"6789")
    found.check()


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "ü", SHA256])
def test_what_is_no_checksum_is_refused(text: str) -> None:
    with pytest.raises(errors.BadRequest):
        promised({"content-md5": text})
