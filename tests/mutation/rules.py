"""What may be changed: one function for every kind of slip."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from tests.mutation.text import Mutant, Text

COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
}
"""Comparison -> what it may become: the edge moves, or the answer turns."""

ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
}
"""Operator -> what it may become. `|` is left alone: almost all of them join types."""

DROPPED = {
    "abs",
    "absolute",
    "maximum",
    "minimum",
    "clip",
    "clamp",
    "sorted",
    "reversed",
    "round",
    "sqrt",
    "ceil",
    "floor",
}
"""Calls that may be forgotten: what is left is an argument, or what the method was called on."""

CHOICES = {"max", "min"}
"""Of two things; of one they make a number of many, and without them nothing would run."""

Rule = Callable[[Text, ast.AST], Iterator[Mutant]]


def _comparison(text: Text, node: ast.AST) -> Iterator[Mutant]:
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, node.comparators, strict=False):
            for after in COMPARISONS[type(operator)]:
                yield from text.between("comparison", left, right, _WORDS[type(operator)], after)


def _arithmetic(text: Text, node: ast.AST) -> Iterator[Mutant]:
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not _is_text(node):
        yield from text.between(
            "arithmetic", node.left, node.right, _WORDS[type(node.op)], f"{ARITHMETIC[type(node.op)]}"
        )
    if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        start, stop = text.span(node.target)[1], text.span(node.value)[0]
        words = f"{_WORDS[type(node.op)]}="
        at = text.source.index(words, start, stop)
        yield Mutant("arithmetic", node.lineno, at, at + len(words), words, f"{ARITHMETIC[type(node.op)]}=")


def _constant(text: Text, node: ast.AST) -> Iterator[Mutant]:
    if not isinstance(node, ast.Constant):
        return
    match node.value:
        case bool():
            yield text.replace("constant", node, str(not node.value))
        case int():
            yield text.replace("off by one", node, str(node.value + 1))
            yield text.replace("off by one", node, f"({node.value} - 1)" if node.value == 0 else str(node.value - 1))
        case float():
            yield text.replace("constant", node, "1.0" if node.value == 0 else f"{node.value!r} * 2")
            if node.value:
                yield text.replace("constant", node, f"{node.value!r} / 4")


def _boolean(text: Text, node: ast.AST) -> Iterator[Mutant]:
    if isinstance(node, ast.BoolOp):
        before, after = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from text.between("boolean", left, right, before, after)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield text.replace("not" if isinstance(node.op, ast.Not) else "sign", node, f"({text.of(node.operand)})")


def _condition(text: Text, node: ast.AST) -> Iterator[Mutant]:
    """The answer turns; where it is a comparison or a `not`, that is done already."""
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield text.replace("condition", node.test, f"(not ({text.of(node.test)}))")
    if isinstance(node, ast.comprehension):
        for test in node.ifs:
            yield text.replace("filter", test, "True")


def _slice(text: Text, node: ast.AST) -> Iterator[Mutant]:
    """A bound stands on the other side, or is forgotten."""
    if isinstance(node, ast.Subscript):
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for part in parts:
            if isinstance(part, ast.Slice) and (part.lower or part.upper or part.step):
                lower, upper, step = (text.of(p) if p else "" for p in (part.lower, part.upper, part.step))
                tail = f":{step}" if step else ""
                if not (lower and upper):
                    yield text.replace("slice", part, f"{upper}:{lower}{tail}")
                yield text.replace("slice", part, f":{tail}")


def _return(text: Text, node: ast.AST) -> Iterator[Mutant]:
    if isinstance(node, ast.Return) and node.value is not None:
        yield text.replace("return", node.value, "None")


def _dropped_call(text: Text, node: ast.AST) -> Iterator[Mutant]:
    if not isinstance(node, ast.Call):
        return
    function = node.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", None)
    free = isinstance(function, ast.Name) or (
        isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in _MODULES
    )
    if name in DROPPED and isinstance(function, ast.Attribute) and not free:
        yield text.replace("dropped call", node, text.of(function.value))
    if free and (name in DROPPED or (name in CHOICES and len(node.args) > 1)):
        for argument in node.args[:2]:
            if not isinstance(argument, ast.Starred | ast.GeneratorExp):
                yield text.replace("dropped call", node, f"({text.of(argument)})")


def _dropped_statement(text: Text, node: ast.AST) -> Iterator[Mutant]:
    """A call that is made for what it does, a raise, an addition in place: forgotten."""
    if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)) or isinstance(node, ast.AugAssign | ast.Raise):
        yield text.replace("dropped statement", node, "pass")


RULES: tuple[Rule, ...] = (
    _comparison,
    _arithmetic,
    _constant,
    _boolean,
    _condition,
    _slice,
    _return,
    _dropped_call,
    _dropped_statement,
)

_MODULES = {"np", "torch", "math", "F"}

_WORDS: dict[type[ast.AST], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.BitAnd: "&",
}


def _is_text(node: ast.BinOp) -> bool:
    return any(isinstance(side, ast.JoinedStr) or _is_string(side) for side in (node.left, node.right))


def _is_string(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
