"""The mutants of a source text: one small fault each, made on its syntax tree.

Texts for people (with a blank in them), docstrings and annotations are left alone: what they say is
held by transcripts, not by a rule.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
AT_THE_BORDER: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
OPPOSITE: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault: where it is, what was there, and what is there instead."""

    file: str
    function: str  # as `co_qualname` spells it; "" at the top of a module or class
    operator: str
    line: str  # the text of the line that the fault is in
    change: str
    defines: str  # the name that the statement at the top of a module or class defines; else ""
    nth: int  # among mutants that look the same
    number: int  # of the line, for people
    at: int  # among all faults of the file

    @property
    def key(self) -> str:
        """What names this mutant as long as its own line stays as it is, wherever it moves."""
        parts = (self.file, self.function, self.operator, self.line, self.change)
        return " | ".join((*parts, str(self.nth)))


@dataclass(frozen=True)
class Fault:
    """A replacement of one node of a tree."""

    operator: str
    node: ast.AST
    new: ast.AST

    @property
    def change(self) -> str:
        return f"{shown(self.node)} -> {shown(self.new)}"


def shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else f"{text[:60]} ... {text[-35:]}"


def faults_of(node: ast.AST, strings: list[str]) -> Iterator[Fault]:
    """Yields every fault that can be made at a node itself."""
    match node:
        case ast.Compare():
            yield from _comparisons(node)
        case ast.BoolOp():
            yield from _operands(node)
        case ast.Constant():
            yield from _constants(node, strings)
        case ast.BinOp(op=op) if type(op) in OPPOSITE:
            yield Fault("arithmetic", node, _with(node, op=OPPOSITE[type(op)]()))
        case ast.UnaryOp(op=ast.Not()):
            yield Fault("negation", node, node.operand)
        case ast.If() | ast.While() | ast.IfExp() if not isinstance(node.test, ast.Compare):
            negated = ast.UnaryOp(ast.Not(), node.test)
            yield Fault("negation", node.test, negated)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield Fault("return", node, ast.Return(ast.Constant(None)))
        case ast.Raise():
            yield Fault("raise", node, ast.Pass())
        case ast.Expr(value=ast.Call() | ast.YieldFrom() | ast.Yield()):
            yield Fault("call", node, ast.Pass())
        case ast.Continue() | ast.Break() | ast.AugAssign() | ast.Delete():
            yield Fault("statement", node, ast.Pass())
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield Fault("statement", node, ast.Pass())


def _with(node: ast.AST, **members: Any) -> ast.AST:
    new = copy.deepcopy(node)
    for name, value in members.items():
        setattr(new, name, value)
    return new


def _comparisons(node: ast.Compare) -> Iterator[Fault]:
    for operator, table in (("comparison", FLIPPED), ("boundary", AT_THE_BORDER)):
        for at, op in enumerate(node.ops):
            if other := table.get(type(op)):
                ops = [other() if at == index else old for index, old in enumerate(node.ops)]
                yield Fault(operator, node, _with(node, ops=ops))


def _operands(node: ast.BoolOp) -> Iterator[Fault]:
    for at in range(len(node.values)):
        left = node.values[:at] + node.values[at + 1 :]
        yield Fault("operand", node, left[0] if len(left) == 1 else _with(node, values=left))
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield Fault("and/or", node, _with(node, op=other))


def _constants(node: ast.Constant, strings: list[str]) -> Iterator[Fault]:
    match node.value:
        case bool():
            yield Fault("constant", node, ast.Constant(not node.value))
        case int() | float():
            yield Fault("constant", node, ast.Constant(node.value + 1))
        case str() if node.value in strings and len(strings) > 1:
            other = strings[(strings.index(node.value) + 1) % len(strings)]
            yield Fault("string", node, ast.Constant(other))


def left_alone(tree: ast.Module) -> set[ast.AST]:
    """Returns nodes that no test can be asked to hold: what is for people and for type checkers."""
    alone: set[ast.AST] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()):  # a docstring
                alone.update(ast.walk(node))
            case (
                ast.arg(annotation=ast.expr() as annotation) | ast.AnnAssign(annotation=annotation)
            ):
                alone.update(ast.walk(annotation))
            case ast.FunctionDef(returns=ast.expr() as returns):
                alone.update(ast.walk(returns))
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.JoinedStr():
                alone.update(ast.walk(node))
            case ast.Assign(targets=[ast.Name(id="__all__" | "__slots__")]):
                alone.update(ast.walk(node))
            case ast.Call(func=ast.Name(id="cast" | "TypeVar")):
                alone.update(ast.walk(node))
            case ast.keyword(arg="frozen" | "slots" | "kw_only" | "repr"):
                alone.update(ast.walk(node))
    return alone


def words_of(tree: ast.Module, alone: set[ast.AST]) -> list[str]:
    """Returns the module's strings that are words, keys or names, each once."""
    found = (_word_of(node) for node in ast.walk(tree) if node not in alone)
    return list(dict.fromkeys(filter(None, found)))


def _word_of(node: ast.AST) -> str:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) and not any(map(str.isspace, value)) else ""


def owners_of(tree: ast.Module) -> dict[ast.AST, str]:
    """Returns for each node the qualified name of the function that it is in."""
    owners: dict[ast.AST, str] = {}

    def visit(node: ast.AST, prefix: str, owner: str) -> None:
        owners[node] = owner
        if isinstance(node, FUNCTIONS):
            owner = prefix + node.name
            prefix = f"{owner}.<locals>."
        elif isinstance(node, ast.ClassDef):
            prefix += f"{node.name}."
        for child in ast.iter_child_nodes(node):
            visit(child, prefix, owner)

    visit(tree, "", "")
    return owners


def definitions_of(tree: ast.Module) -> dict[ast.AST, str]:
    """Returns for each node at the top of the module or of a class the name that it defines."""
    names: dict[ast.AST, str] = {}

    def visit(statement: ast.stmt) -> None:
        name = ""
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                pass
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                pass
        names.update(dict.fromkeys(ast.walk(statement), name))
        if isinstance(statement, ast.ClassDef):
            for inner in statement.body:
                visit(inner)

    for statement in tree.body:
        visit(statement)
    return names


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Returns every mutant of a source text."""
    tree, lines = ast.parse(source), source.splitlines()
    owners, names = owners_of(tree), definitions_of(tree)
    seen: dict[tuple[str, str, str, str], int] = {}
    found = []
    for at, fault in enumerate(_faults(tree)):
        number = getattr(fault.node, "lineno", 1)
        line = lines[number - 1].strip()
        looks = (owners[fault.node], fault.operator, line, fault.change)
        seen[looks] = seen.get(looks, 0) + 1
        function, operator, line, change = looks
        found.append(
            Mutant(
                file=file,
                function=function,
                operator=operator,
                line=line,
                change=change,
                defines=names.get(fault.node, ""),
                nth=seen[looks],
                number=number,
                at=at,
            )
        )
    return found


def planted(source: str, mutant: Mutant) -> str:
    """Returns the source text with the mutant's fault in it."""
    return ast.unparse(planted_tree(source, mutant))


def planted_tree(source: str, mutant: Mutant) -> ast.Module:
    """Returns the source's syntax tree with the mutant's fault in it; lines keep their number."""
    tree = ast.parse(source)
    fault = next(itertools.islice(_faults(tree), mutant.at, None))
    ast.copy_location(fault.new, fault.node)
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is fault.node:
                setattr(parent, name, fault.new)
            elif isinstance(value, list):
                value[:] = [fault.new if item is fault.node else item for item in value]
    return ast.fix_missing_locations(tree)


def _faults(tree: ast.Module) -> Iterator[Fault]:
    """Yields every fault of a tree, in the same order for the same text."""
    alone = left_alone(tree)
    strings = words_of(tree, alone)
    for node in ast.walk(tree):
        if node not in alone:
            yield from faults_of(node, strings)


def sampled(mutants: list[Mutant], *, seed: int, size: int) -> list[Mutant]:
    """Returns `size` of the mutants: the same ones as long as their own lines stay as they are."""

    def rank(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed}:{mutant.key}".encode()).digest()

    return sorted(sorted(mutants, key=rank)[:size], key=lambda mutant: mutant.number)
