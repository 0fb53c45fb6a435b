"""Grants and revocations in the text of tuples.yaml; every other line stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from proxy.policy.embedded.tuples import ConditionRef, Tuple
from proxy.policy.files import CLASSES, MODEL, TUPLES, InvalidPolicy, check_class, parse, read_placed


def tuple_for(user: str, relation: str, object_: str, until: str | None = None) -> Tuple:
    """The tuple of an edit: names as `principal` takes them, a class by its bare name."""
    ref = None if until is None else ConditionRef("valid_until", {"until": until})
    return Tuple(principal(user), relation, object_ if ":" in object_ else f"auth_class:{object_}", ref)


def principal(name: str) -> str:
    """A user as tuples spell it: `x` is user:local/x, `alias/x` user:alias/x, `group:x` group:x#member."""
    if name.startswith("group:"):
        return name if "#" in name else f"{name}#member"
    if name.startswith("user:"):
        return name
    if name == "*":
        return "user:*"
    return f"user:{name}" if "/" in name else f"user:local/{name}"


def granted(texts: Mapping[str, str], new: Tuple) -> str | None:
    """The tuples.yaml with the tuple in it; None where it is there. Raises `InvalidPolicy` where the policy
    would not be valid with it, or has the tuple with another condition; ValueError for no class."""
    kind, _, name = new.object.partition(":")
    if kind == "auth_class":
        check_class(name)
    for line, each in read_placed(texts[TUPLES]):
        if each == new:
            return None
        if each.key == new.key:
            raise InvalidPolicy(
                [f"{TUPLES}:{line}: {each} is there under another condition; revoke it first"]
            )
    placed = [each for _, each in read_placed(texts[TUPLES])]
    document = _yaml().load(texts[TUPLES]) or CommentedSeq()
    entry = _entry(new)
    document.append(entry)
    # As text where that is the same: the library moves comments that stand before what is appended.
    lines = texts[TUPLES].splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    return _first_valid(texts, [*placed, new], "".join(lines) + _dump([entry]), _dump(document))


def revoked(texts: Mapping[str, str], user: str, relation: str, object_: str) -> str | None:
    """The tuples.yaml without the tuple, whatever its condition, comments kept; None where it is not there.
    Raises `InvalidPolicy`."""
    key = (object_, relation, user)
    placed = read_placed(texts[TUPLES])
    left = [each for _, each in placed if each.key != key]
    if len(left) == len(placed):
        return None
    lines = texts[TUPLES].splitlines(keepends=True)
    document = _yaml().load(texts[TUPLES])
    for number in reversed(range(len(placed))):
        line, each = placed[number]
        if each.key == key:
            del lines[line - 1 : _end(lines, line)]
            del document[number]
    return _first_valid(texts, left, "".join(lines), _dump(document))


def _first_valid(texts: Mapping[str, str], wanted: list[Tuple], *candidates: str) -> str:
    """The first text that has the wanted tuples. Raises `InvalidPolicy` where none is a valid policy."""
    for text in candidates:
        try:
            if [each for _, each in read_placed(text)] != wanted:
                continue
        except InvalidPolicy:
            continue
        parse({MODEL: texts[MODEL], CLASSES: texts[CLASSES], TUPLES: text})
        return text
    raise InvalidPolicy([f"{TUPLES}: its layout cannot be edited; write each entry on lines of its own"])


def _end(lines: list[str], line: int) -> int:
    """The line (from 1) that ends the entry which begins on `line`."""
    indent = len(lines[line - 1]) - len(lines[line - 1].lstrip())
    end = line
    while end < len(lines):
        following = lines[end]
        deeper = len(following) - len(following.lstrip()) > indent
        if not following.strip() or not deeper:
            break
        end += 1
    return end


def _entry(new: Tuple) -> dict[str, object]:
    entry: dict[str, object] = {"user": new.user, "relation": new.relation, "object": new.object}
    if new.condition is not None:
        entry["condition"] = {"name": new.condition.name, "context": dict(new.condition.context)}
    return entry


def _dump(document: object) -> str:
    out = StringIO()
    _yaml().dump(document, out)
    return out.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml
