"""The headers of a delivery: who it is for, which one it is, and that it is ours. Pure.

In the style of Standard Webhooks: `webhook-id` stays the same however often a delivery is repeated,
`webhook-timestamp` is when it was sent, in Unix seconds, and `webhook-signature` is over both and the body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import uuid

USER_AGENT = "tams-webhooks/1"
_WHSEC = "whsec_"


def delivery_id(webhook_id: str, sequence: int) -> str:
    """The id of one event for one webhook: the same for every attempt, also from another process."""
    return str(uuid.uuid5(uuid.UUID(webhook_id), str(sequence)))


def headers_of(
    body: bytes, *, id: str, sent_s: int, key_name: str | None, secret: str | None
) -> dict[str, str]:
    """The headers of one attempt.

    `secret` (TAMS 8.2 webhook-post.json, `api_key_value`) goes into the header `key_name`, if there is one,
    and signs the delivery. A secret that is spelt `whsec_` and base64 signs as Standard Webhooks has it, else
    its bytes are the key.
    """
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": id,
        "webhook-timestamp": str(sent_s),
    }
    if secret:
        headers["webhook-signature"] = signature(secret, id, sent_s, body)
        if key_name is not None:
            headers[key_name] = secret
    return headers


def signature(secret: str, id: str, sent_s: int, body: bytes) -> str:
    """`v1,` and the base64 of the HMAC-SHA256 over id, time and body, joined by dots."""
    signed = f"{id}.{sent_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    if secret.startswith(_WHSEC):
        try:
            return base64.b64decode(secret.removeprefix(_WHSEC), validate=True)
        except binascii.Error:
            pass
    return secret.encode()
