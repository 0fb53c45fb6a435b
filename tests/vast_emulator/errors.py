"""What the emulator refuses, as the status and S3 error code that go over the wire."""


class Refusal(Exception):
    """A request that is answered with `status` and an S3 error body instead of a result."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message or code


def not_found(code: str, name: str) -> Refusal:
    return Refusal(404, code, f"{code}: {name}")


def bad_request(code: str, message: str) -> Refusal:
    return Refusal(400, code, f"{code}: {message}")


def conflict(code: str, message: str) -> Refusal:
    return Refusal(409, code, f"{code}: {message}")


def not_emulated(what: str) -> Refusal:
    return Refusal(501, "NotImplemented", f"not emulated: {what}")
