"""How long signing 1,000 reading URLs takes: ours against boto3's.

The target: 15 times faster than boto3.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import boto3

from store.media.config import S3Config
from store.media.s3 import S3
from store.media.signing import Lifetime, Signer, token_of
from store.media.sigv4 import Keys
from tests.bench.table import Result, Rounds

URLS = 1_000
ROUNDS = 9
START_S = 1_800_000_000
KEYS = [f"2026/11/21/{uuid.uuid4()}/{uuid.uuid4().hex}" for _ in range(URLS)]
CREDENTIALS = Keys("AKIDEXAMPLE", "s" * 40)


def signed_ms(rounds: int, *ways: Callable[[int], object]) -> list[Rounds]:
    """CPU time of each way, in turns; each is told the number of the round."""
    times: list[list[float]] = [[] for _ in ways]
    for number in range(rounds):
        for way, taken in zip(ways, times, strict=True):
            began = time.thread_time()
            way(number)
            taken.append(1e3 * (time.thread_time() - began))
    return [Rounds(tuple(taken)) for taken in times]


def signing(rounds: int = ROUNDS) -> list[Result]:
    """1,000 URLs signed by us and by boto3."""
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
        sign = s3.sign_at(START_S + number * 300)
        for key in KEYS:
            sign(key, "id:abc", None)

    def boto(_: int) -> None:
        for key in KEYS[:100]:
            client.generate_presigned_url("get_object", {"Bucket": "media", "Key": key, "VersionId": "abc"})

    def locally(number: int) -> None:
        query = local.signing("GET", config.id, expires_s=START_S + number)
        for key in KEYS:
            token_of(key)
            query(key, "video/mp2t")

    theirs, *ours = signed_ms(rounds, boto, fresh, locally)
    each = theirs / (100 / URLS)
    return [
        Result("P3", f"  signing 1,000 URLs, {name}, to boto3's CPU", signed, each, "ms", 1 / 15, False)
        for name, signed in zip(("S3", "local"), ours, strict=True)
    ]
