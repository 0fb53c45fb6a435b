"""The OpenFGA configuration language (DSL), schema 1.1 and 1.2: text -> Model.

The grammar is OpenFGA's. After a fault the parser goes on at the next declaration, so one run reports all
declarations that are wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from proxy.policy.embedded.errors import InvalidModel, Problem, Span
from proxy.policy.embedded.lexer import Kind, Lexer, Token, strip_comments
from proxy.policy.embedded.model import (
    GENERIC_TYPES,
    PARAMETER_TYPES,
    Computed,
    Condition,
    Exclusion,
    Intersection,
    Model,
    ParameterType,
    Relation,
    Rewrite,
    This,
    TupleToUserset,
    TypeDefinition,
    TypeRestriction,
    Union,
)

_SCHEMA = re.compile(r"[0-9]+\.[0-9]+")
_MAX_NESTING = 50
_RESERVED = frozenset({"define", "relations", "and", "or", "but not", "from", "with", "condition"})
_DECLARATIONS = frozenset({"type", "extend", "condition"})
_STRING = re.compile(
    r'[rR]?(?:"""(?:[^\\]|\\.)*?"""|\'\'\'(?:[^\\]|\\.)*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\')',
    re.DOTALL,
)


@dataclass
class Document:
    """One text, parsed: its model, and the module it declares itself to be (None for a whole model)."""

    model: Model
    module: str | None


class _Unexpected(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass
class _Body:
    """What the declarations of a text have given so far."""

    types: list[TypeDefinition] = field(default_factory=list)
    conditions: dict[str, Condition] = field(default_factory=dict)


def parse(text: str, file: str | None = None) -> Document:
    """Parse a model or a module. Raises `InvalidModel` with every declaration that is wrong.

    The meaning is not looked at: that is `validate`.
    """
    parser = _Parser(strip_comments(text), file)
    document = parser.document()
    if parser.problems:
        raise InvalidModel(parser.problems)
    return document


class _Parser:
    def __init__(self, text: str, file: str | None) -> None:
        self.lexer = Lexer(text)
        self.file = file
        self.module: str | None = None
        self.problems: list[Problem] = []
        self.nesting = 0

    # Steps of the cursor

    def fail(self, token: Token, wanted: str) -> NoReturn:
        shown = token.text if token.kind in (Kind.WORD, Kind.MARK, Kind.END) else repr(token.text)
        raise _Unexpected(Problem(f"found {shown!s}, expected {wanted}", "syntax", token.span, self.file))

    def report(self, message: str, span: Span) -> None:
        self.problems.append(Problem(message, "syntax", span, self.file))

    def space(self, *, newlines: bool = False) -> bool:
        kinds = (Kind.SPACE, Kind.NEWLINE) if newlines else (Kind.SPACE,)
        moved = False
        while self.lexer.token.kind in kinds:
            self.lexer.advance()
            moved = True
        return moved

    def at(self, *texts: str) -> bool:
        return self.lexer.token.kind in (Kind.WORD, Kind.MARK) and self.lexer.token.text in texts

    def take(self, *texts: str) -> Token:
        if not self.at(*texts):
            self.fail(self.lexer.token, " or ".join(repr(text) for text in texts))
        return self.lexer.advance()

    def take_space(self) -> None:
        if self.lexer.token.kind is not Kind.SPACE:
            self.fail(self.lexer.token, "a space")
        self.lexer.advance()

    def take_newline(self) -> None:
        if self.lexer.token.kind is not Kind.NEWLINE:
            self.fail(self.lexer.token, "the end of the line")
        self.lexer.advance()

    def take_name(self, what: str) -> Token:
        token = self.lexer.token
        if token.kind is not Kind.WORD or token.text in _RESERVED:
            self.fail(token, what)
        return self.lexer.advance()

    # Declarations

    def document(self) -> Document:
        body = _Body()
        try:
            schema = self.header()
        except _Unexpected as unexpected:
            self.problems.append(unexpected.problem)
            return Document(Model("", (), {}), None)
        while True:
            try:
                if not self.declaration(body):
                    break
            except _Unexpected as unexpected:
                self.problems.append(unexpected.problem)
                self.resume(_DECLARATIONS)
        model = Model(schema.text, tuple(body.types), body.conditions, schema.span) if schema else None
        return Document(model or Model("", tuple(body.types), body.conditions), self.module)

    def resume(self, words: frozenset[str]) -> bool:
        """Skip to a line that starts with one of the words; False at the end of the text."""
        while self.lexer.token.kind is not Kind.END:
            if self.lexer.token.kind is Kind.NEWLINE and self.lexer.peek().text in words:
                return True
            self.lexer.advance()
        return False

    def header(self) -> Token | None:
        """The token of the schema version; None for a module, which states none."""
        self.space(newlines=True)
        if self.at("module"):
            self.lexer.advance()
            self.take_space()
            self.module = self.take_name("a module name").text
            return None
        self.take("model")
        self.take_newline()
        self.take("schema")
        self.take_space()
        version = self.lexer.token
        if version.kind is not Kind.WORD or not _SCHEMA.fullmatch(version.text):
            self.fail(version, "a schema version")
        return self.lexer.advance()

    def declaration(self, body: _Body) -> bool:
        """Parse one declaration into the body; False at the end of the text."""
        if self.lexer.token.kind is Kind.NEWLINE and self.lexer.peek().kind is Kind.END:
            self.lexer.advance()
        if self.lexer.token.kind is Kind.END:
            return False
        self.take_newline()
        if self.at("condition"):
            self.condition(body)
        elif body.conditions and not self.at("extend", "type"):
            self.fail(self.lexer.token, "'condition'")
        else:
            self.type_definition(body)
        return True

    def type_definition(self, body: _Body) -> None:
        extends = self.at("extend")
        if extends:
            self.lexer.advance()
            self.take_space()
        if not self.at("type"):
            self.fail(self.lexer.token, "'type', 'extend' or 'condition'")
        self.lexer.advance()
        self.take_space()
        name = self.take_name("a type name")
        relations: dict[str, Relation] = {}
        if self.lexer.token.kind is Kind.NEWLINE and self.lexer.peek().text == "relations":
            self.lexer.advance()
            self.lexer.advance()
            self.relations(name.text, relations)
        if extends and self.module is None:
            self.report("extend can only be used in a modular model", name.span)
        if extends and any(each.extends and each.name == name.text for each in body.types):
            self.report(f"'{name.text}' is already extended in file.", name.span)
        body.types.append(
            TypeDefinition(name.text, relations, self.module, self.file, extends=extends, span=name.span)
        )

    def relations(self, type_name: str, relations: dict[str, Relation]) -> None:
        if self.lexer.token.kind is not Kind.NEWLINE or self.lexer.peek().text != "define":
            self.take_newline()
            self.take("define")
        while self.lexer.token.kind is Kind.NEWLINE and self.lexer.peek().text == "define":
            self.lexer.advance()
            try:
                relation = self.define()
            except _Unexpected as unexpected:
                self.problems.append(unexpected.problem)
                if not self.resume(_DECLARATIONS | {"define"}):
                    return
                continue
            if relation.name in relations:
                assert relation.span is not None
                self.report(f"'{relation.name}' is already defined in '{type_name}'", relation.span)
            relations[relation.name] = relation

    def define(self) -> Relation:
        self.take("define")
        self.take_space()
        name = self.take_name("a relation name")
        self.space()
        self.take(":")
        self.space()
        restrictions: list[TypeRestriction] = []
        rewrite = self.expression(restrictions)
        if self.lexer.token.kind not in (Kind.NEWLINE, Kind.END):
            self.fail(self.lexer.token, "the end of the line")
        return Relation(name.text, rewrite, tuple(restrictions), span=name.span)

    # Relation definitions

    def expression(self, restrictions: list[TypeRestriction] | None) -> Rewrite:
        """A definition; `restrictions` receives the type restrictions, None where none may stand."""
        first = self.operand(restrictions)
        operator = self.operator()
        if operator is None:
            return first
        children = [first]
        while self.operator() == operator:
            self.lexer.advance()
            self.lexer.advance()
            self.take_space()
            children.append(self.operand(None))
            if operator == "but not":
                return Exclusion(children[0], children[1])
        return Union(tuple(children)) if operator == "or" else Intersection(tuple(children))

    def operator(self) -> str | None:
        """The operator that follows a blank, if one does; the cursor stays."""
        if self.lexer.token.kind is not Kind.SPACE:
            return None
        following = self.lexer.peek()
        return following.text if following.text in ("or", "and", "but not") else None

    def operand(self, restrictions: list[TypeRestriction] | None) -> Rewrite:
        if self.at("("):
            return self.parentheses(restrictions)
        if self.at("[") and restrictions is not None:
            start = self.lexer.token
            self.type_restrictions(restrictions)
            return This(start.span)
        relation = self.take_name("a relation")
        if self.lexer.token.kind is Kind.SPACE and self.lexer.peek().text == "from":
            self.lexer.advance()
            self.lexer.advance()
            self.take_space()
            tupleset = self.take_name("a relation")
            span = Span(relation.span.line, relation.span.start, tupleset.span.end)
            return TupleToUserset(tupleset.text, relation.text, span, tupleset.span)
        return Computed(relation.text, relation.span)

    def parentheses(self, restrictions: list[TypeRestriction] | None) -> Rewrite:
        opening = self.take("(")
        if self.nesting >= _MAX_NESTING:
            self.fail(opening, f"at most {_MAX_NESTING} parentheses in each other")
        self.nesting += 1
        try:
            self.space()
            inner = self.expression(restrictions)
            self.space()
            self.take(")")
        finally:
            self.nesting -= 1
        return inner

    def type_restrictions(self, restrictions: list[TypeRestriction]) -> None:
        self.take("[")
        while True:
            self.space(newlines=True)
            restrictions.append(self.type_restriction())
            self.space(newlines=True)
            if self.take(",", "]").text == "]":
                return

    def type_restriction(self) -> TypeRestriction:
        name = self.take_name("a type")
        relation, wildcard, end = None, False, name.span.end
        if self.at(":"):
            self.lexer.advance()
            end = self.take("*").span.end
            wildcard = True
        elif self.at("#"):
            self.lexer.advance()
            token = self.take_name("a relation")
            relation, end = token.text, token.span.end
        span = Span(name.span.line, name.span.start, end)
        if self.lexer.token.kind is not Kind.SPACE or self.lexer.peek().text != "with":
            return TypeRestriction(name.text, relation, wildcard, span=span)
        self.lexer.advance()
        self.lexer.advance()
        self.take_space()
        condition = self.take_name("a condition")
        return TypeRestriction(name.text, relation, wildcard, condition.text, span, condition.span)

    # Conditions

    def condition(self, body: _Body) -> None:
        self.take("condition")
        self.take_space()
        name = self.take_name("a condition name")
        self.space()
        self.take("(")
        parameters: dict[str, ParameterType] = {}
        while True:
            self.space(newlines=True)
            self.parameter(name.text, parameters)
            self.space(newlines=True)
            if self.take(",", ")").text == ")":
                break
        self.space(newlines=True)
        expression = self.condition_expression()
        if name.text in body.conditions:
            self.report(f"condition '{name.text}' is already defined in the model", name.span)
        body.conditions[name.text] = Condition(
            name.text, parameters, expression, self.module, self.file, span=name.span
        )

    def parameter(self, condition: str, parameters: dict[str, ParameterType]) -> None:
        token = self.lexer.token
        if token.text in PARAMETER_TYPES:
            self.fail(token, "a parameter name")
        name = self.take_name("a parameter name")
        self.space()
        self.take(":")
        self.space()
        kind = self.take_name("a parameter type")
        if kind.text not in PARAMETER_TYPES:
            self.fail(kind, "a parameter type")
        of = None
        if kind.text in GENERIC_TYPES:
            self.take("<")
            element = self.take_name("a parameter type")
            if element.text not in PARAMETER_TYPES - GENERIC_TYPES:
                self.fail(element, "a parameter type without elements")
            of = element.text
            self.take(">")
        if name.text in parameters:
            self.report(
                f"parameter '{name.text}' is already defined in the condition '{condition}'", name.span
            )
        parameters[name.text] = ParameterType(kind.text, of)

    def condition_expression(self) -> str:
        """The text between the braces; braces inside strings do not count, inner ones nest."""
        opening = self.lexer.token
        if not self.at("{"):
            self.fail(opening, "'{'")
        text, depth = self.lexer.text, 0
        offset = opening.offset
        while offset < len(text):
            string = _STRING.match(text, offset)
            if string:
                offset = string.end()
                continue
            depth += {"{": 1, "}": -1}.get(text[offset], 0)
            offset += 1
            if depth == 0:
                self.lexer.jump(offset)
                return text[opening.offset + 1 : offset - 1].strip()
        self.fail(opening, "a closing '}' for this one")
