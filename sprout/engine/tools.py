"""Tools that the model may call: a small registry, and the two that come with the house."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sprout.common.messages import ToolCall
from sprout.world import World

LONGEST = 200  # characters of an expression, and of a result
DEEPEST = 20  # brackets inside brackets


@dataclass(frozen=True, slots=True)
class Tool:
    """`run` takes the call's arguments by name and returns text; `parameters` is their JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    run: Callable[..., str]


Toolbox = dict[str, Tool]


def run_tool(toolbox: Toolbox, allowed: tuple[str, ...], call: ToolCall) -> str:
    """The result of a call as text. Whatever goes wrong is a result as well: 'Error: ...'."""
    tool = toolbox.get(call.name) if call.name in allowed else None
    if tool is None:
        return f"Error: there is no tool {call.name[:40]}"
    try:
        arguments = json.loads(call.arguments)
        return tool.run(**arguments)[: 2 * LONGEST]
    except (ValueError, TypeError, RecursionError) as error:
        return f"Error: {error}"[:LONGEST]


def calculate(expression: str) -> str:
    """The exact value of an expression of numbers, + - * x / and brackets, as '877' or '0.75' (at most 6 decimals).

    Raises ValueError with a reason. A parser, never `eval`: the model's output is hostile.
    """
    if not isinstance(expression, str) or len(expression) > LONGEST:
        raise ValueError(f"expected an expression of at most {LONGEST} characters")
    symbols = _symbols(expression)
    value, rest = _sum(symbols, 0, 0)
    if rest < len(symbols):
        raise ValueError(f"did not expect {symbols[rest]!r}")
    if abs(value.numerator) > 10**30 or value.denominator > 10**30:
        raise ValueError("the numbers get too large")
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


def _symbols(text: str) -> list[str]:
    symbols, i = [], 0
    while i < len(text):
        c = text[i]
        if c.isascii() and c.isdigit():
            j = i
            while j < len(text) and text[j].isascii() and (text[j].isdigit() or text[j] == "."):
                j += 1
            symbols.append(text[i:j])
            i = j
        elif c in "+-*x/()":
            symbols.append("*" if c == "x" else c)
            i += 1
        elif c.isspace():
            i += 1
        else:
            raise ValueError(f"did not expect {c!r}")
    return symbols


def _sum(symbols: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _product(symbols, at, depth)
    while at < len(symbols) and symbols[at] in "+-":
        right, after = _product(symbols, at + 1, depth)
        value = value + right if symbols[at] == "+" else value - right
        at = after
    return value, at


def _product(symbols: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _atom(symbols, at, depth)
    while at < len(symbols) and symbols[at] in "*/":
        right, after = _atom(symbols, at + 1, depth)
        if symbols[at] == "/" and right == 0:
            raise ValueError("division by zero")
        value = value * right if symbols[at] == "*" else value / right
        at = after
    return value, at


def _atom(symbols: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    if depth > DEEPEST:
        raise ValueError("too many brackets")
    if at >= len(symbols):
        raise ValueError("the expression ends too early")
    symbol = symbols[at]
    if symbol == "-":
        value, after = _atom(symbols, at + 1, depth + 1)
        return -value, after
    if symbol == "(":
        value, after = _sum(symbols, at + 1, depth + 1)
        if after >= len(symbols) or symbols[after] != ")":
            raise ValueError("a bracket is not closed")
        return value, after + 1
    if symbol[0].isdigit() and symbol.count(".") <= 1 and not symbol.endswith("."):
        return Fraction(symbol), at + 1
    raise ValueError(f"did not expect {symbol!r}")


def _schema(argument: str, description: str) -> dict[str, Any]:
    return {"type": "object", "properties": {argument: {"type": "string", "description": description}}, "required": [argument]}


def toolbox_for(world: World | None) -> Toolbox:
    """The calculator, and the almanac of the world where there is one."""
    tools = [Tool("calculator", "Works out an expression.", _schema("expression", "for example 12 + 30"), lambda expression: calculate(expression))]
    if world is not None:
        tools.append(Tool("lookup", "Reads the almanac's entry of a name.", _schema("name", "a full name"), lambda name: world.lookup(str(name))))
    return {tool.name: tool for tool in tools}
