"""How long signing 1,000 reading URLs takes: ours against boto3's, fresh and reused.

Run: python -m tests.bench.presign. Target: 1,000 fresh URLs in at most 8 ms and 15 times faster than boto3
on the machine of performance.md; only the ratio carries over to another.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable

import boto3

from store.media.config import S3Config
from store.media.s3 import S3
from store.media.signing import Lifetime, Signer, token_of
from store.media.sigv4 import Keys

URLS = 1_000
ROUNDS = 9
START_S = 1_800_000_000
KEYS = [f"2026/11/21/{uuid.uuid4()}/{uuid.uuid4().hex}" for _ in range(URLS)]
CREDENTIALS = Keys("AKIDEXAMPLE", "s" * 40)


def median_s(sign_all: Callable[[int], object]) -> float:
    """Of several rounds, each told its number."""
    times = []
    for number in range(ROUNDS):
        start = time.perf_counter()
        sign_all(number)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print the figures."""
    endpoint = "http://127.0.0.1:9000"
    config = S3Config(id=str(uuid.uuid4()), bucket="media", endpoints=(endpoint,), credentials=CREDENTIALS)
    s3 = S3(config, lifetime=Lifetime(), clock=time.time)
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS.access_key,
        aws_secret_access_key=CREDENTIALS.secret_key,
    )
    local = Signer((b"k" * 32,))

    def fresh(number: int) -> None:
        now_s = START_S + number * 300
        for key in KEYS:
            s3.get_url(key, version="id:abc", now_s=now_s)

    def reused(_: int) -> None:
        for key in KEYS:
            s3.get_url(key, version="id:abc", now_s=START_S)

    def boto(_: int) -> None:
        for key in KEYS[:100]:
            client.generate_presigned_url("get_object", {"Bucket": "media", "Key": key, "VersionId": "abc"})

    def locally(number: int) -> None:
        for key in KEYS:
            token_of(key)
            local.sign("GET", config.id, key, expires_s=START_S + number, content_type="video/mp2t")

    boto_s = median_s(boto) * URLS / 100
    print(f"boto3        {boto_s * 1e3:8.2f} ms for {URLS}")
    for name, signed_s in (
        ("S3, fresh", median_s(fresh)),
        ("S3, reused", median_s(reused)),
        ("local, fresh", median_s(locally)),
    ):
        print(f"{name:12} {signed_s * 1e3:8.2f} ms for {URLS}, {boto_s / signed_s:6.1f} x boto3's speed")


if __name__ == "__main__":
    main()
