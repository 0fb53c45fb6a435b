"""What a command prints when a file cannot be used."""

from __future__ import annotations


def in_words(exc: Exception) -> str:
    """The failure as a sentence; of the operating system's, the file and why, without their number."""
    if not isinstance(exc, OSError) or not exc.strerror:
        return str(exc)
    # Of a file that is put in another's place it is the place that the caller knows.
    file = exc.filename2 or exc.filename
    why = exc.strerror[:1].lower() + exc.strerror[1:]
    return why if file is None else f"{file}: {why}"
