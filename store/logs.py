"""Logs: a line of text for people on a terminal, one JSON object a line otherwise."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import orjson

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_QUIET = ("httpx", "httpcore", "botocore", "boto3", "urllib3", "s3transfer")


class JsonFormatter(logging.Formatter):
    """One JSON object; a record's `fields` stand beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


class TextFormatter(logging.Formatter):
    """Time, level, message, and the record's `fields` that say something."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, its exception below."""
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = getattr(record, "fields", {})
        told = " ".join(
            f"{name}={_shown(value)}" for name, value in fields.items() if value not in ("", None)
        )
        line = f"{time} {record.levelname.lower():7} {record.getMessage()} {told}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def told_fields(fields: Mapping[str, Any]) -> str:
    """The fields that say something, as `name=value`."""
    said = {name: value for name, value in fields.items() if value not in ("", None)}
    return " ".join(f"{name}={_shown(value)}" for name, value in said.items())


def _shown(value: object) -> str:
    return ",".join(map(str, value)) or "-" if isinstance(value, list) else str(value)


def is_text(form: Literal["auto", "text", "json"], stream: TextIO) -> bool:
    """Whether logs to the stream are for people."""
    return form == "text" or (form == "auto" and stream.isatty())


def lines(
    form: Literal["auto", "text", "json"], stream: TextIO = sys.stderr
) -> Callable[[list[dict[str, Any]]], None]:
    """Writes records straight to the stream, many with one write, in the form of the other logs. `time` of
    each is a datetime."""
    shown = _texts if is_text(form, stream) else _objects

    def write(records: list[dict[str, Any]]) -> None:
        stream.write(shown(records))
        stream.flush()

    return write


def _texts(records: list[dict[str, Any]]) -> str:
    times = [record.pop("time").astimezone().strftime("%H:%M:%S") for record in records]
    told = zip(times, records, strict=True)
    return "".join(f"{time} info    {told_fields(record)}\n" for time, record in told)


def _objects(records: list[dict[str, Any]]) -> str:
    end = orjson.OPT_APPEND_NEWLINE
    return b"".join([orjson.dumps({"level": "info", **record}, option=end) for record in records]).decode()


def set_up(level: str, form: Literal["auto", "text", "json"], stream: TextIO = sys.stderr) -> None:
    """Send all logs to the stream."""
    text = is_text(form, stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
