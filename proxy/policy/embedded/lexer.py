"""Tokens of the OpenFGA configuration language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from proxy.policy.embedded.errors import Span


class Kind(Enum):
    """What a token is. Keywords are words: which of them are names depends on the place."""

    NEWLINE = auto()
    SPACE = auto()
    WORD = auto()
    MARK = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A token; `text` of "but not" has one space, of the end is "<EOF>". `offset` is where it starts."""

    kind: Kind
    text: str
    span: Span
    offset: int


_TOKEN = re.compile(
    r"(?P<NEWLINE>[ \t]*(?:\r?\n[ \t]*)+)|(?P<SPACE>[ \t]+)"
    r"|(?P<WORD>but[ \t]+not(?![\w./-])|\w[\w./-]*)|(?P<MARK>.)",
    re.ASCII,
)


def strip_comments(text: str) -> str:
    """The text with comments and trailing blanks removed; every line and column stays where it was.

    A comment starts at a `#` that begins a line or follows a blank, inside a condition too: so does
    OpenFGA's own transformer.
    """
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.lstrip().startswith("#"):
            lines.append("")
        else:
            lines.append(line.split(" #", 1)[0].rstrip())
    return "\n".join(lines)


class Lexer:
    """A cursor over the tokens of a text without comments."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self.token = self._read(0)

    def advance(self) -> Token:
        """The current token; the cursor moves past it."""
        token = self.token
        if token.kind is not Kind.END:
            self.token = self._read(token.offset + self._width(token.offset))
        return token

    def peek(self) -> Token:
        """The token after the current one."""
        if self.token.kind is Kind.END:
            return self.token
        return self._read(self.token.offset + self._width(self.token.offset))

    def jump(self, offset: int) -> None:
        """Move the cursor to an offset of the text."""
        self.token = self._read(offset)

    def span_of(self, start: int, end: int) -> Span:
        """The span between two offsets of the text, on the line of the first."""
        line = self._line(start)
        return Span(line, start - self._starts[line], end - self._starts[line])

    def _line(self, offset: int) -> int:
        low, high = 0, len(self._starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._starts[middle] <= offset else (low, middle)
        return low

    def _width(self, offset: int) -> int:
        found = _TOKEN.match(self.text, offset)
        return len(found.group()) if found else 0

    def _read(self, offset: int) -> Token:
        found = _TOKEN.match(self.text, offset)
        if found is None:
            start = self.span_of(offset, offset)
            return Token(Kind.END, "<EOF>", start, offset)
        text, kind = found.group(), Kind[found.lastgroup or "MARK"]
        if kind is Kind.WORD and text.startswith("but") and " " in text.replace("\t", " "):
            text = "but not"
        width = len(found.group().rstrip(" \t")) if kind is Kind.NEWLINE else len(found.group())
        return Token(kind, text, self.span_of(offset, offset + width), offset)
