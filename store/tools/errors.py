"""What ends a tool's work, besides what the server refuses."""

from __future__ import annotations


class ToolError(Exception):
    """The work cannot go on; the text says why, and what would help."""


class Unreadable(ToolError):
    """These bytes are not media that can be stored."""


class Broken(ToolError):
    """The media's times do not follow each other."""
