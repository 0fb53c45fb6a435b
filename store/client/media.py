"""PyAV, which comes with the extra `media`: imported when it is needed."""

from __future__ import annotations

from typing import Any


class NoMediaLibrary(Exception):
    """PyAV is not installed."""


def codec_name(stream: Any) -> str:
    """What FFmpeg calls the codec of a stream, whatever decodes it."""
    context = stream.codec_context
    return "unknown" if context is None else str(context.codec.canonical_name)


def pyav() -> Any:
    """The module `av`. Raises `NoMediaLibrary`."""
    try:
        import av
        import av.error
        import av.logging
    except ImportError as exc:
        raise NoMediaLibrary(
            "PyAV is missing, which reads and makes media: run `.venv/bin/pip install 'av>=14'` "
            "(`make run` installs it)"
        ) from exc
    # Encoders chat about their settings on standard error.
    av.logging.set_level(av.logging.ERROR)
    return av
