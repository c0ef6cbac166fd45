"""The calculator: a small recursive-descent parser on exact fractions. Never `eval`: what a model writes is hostile.

sum     = product { (+ | -) product }
product = atom { (* | x | /) atom }
atom    = number | - atom | ( sum )
"""

from __future__ import annotations

from fractions import Fraction

LONGEST = 200  # characters of an expression
DEEPEST = 20  # brackets and signs inside each other
LARGEST = 10**30  # of a result
DECIMALS = 12  # a result with more of them is rounded to 6, and says so

SIGNS = {"x": "*", "×": "*", "÷": "/", "−": "-", **{c: c for c in "+-*/()"}}


def calculate(expression: str) -> str:
    """The exact value of an expression as '877' or '-0.75'; one with more than 12 decimals as 'about 3.333333'.

    Raises ValueError with a reason for what is no expression, for division by zero and for what is too large.
    """
    if len(expression) > LONGEST:
        raise ValueError(f"the expression is longer than {LONGEST} characters")
    symbols = split_symbols(expression)
    value, at = _sum(symbols, 0, 0)
    if at < len(symbols):
        raise ValueError(f"did not expect {symbols[at]}")
    if abs(value) > LARGEST:
        raise ValueError("the result is too large")
    return decimal(value)


def decimal(value: Fraction) -> str:
    """A fraction as decimal digits."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**DECIMALS
    if scaled.denominator == 1:
        return _digits(int(scaled), DECIMALS).rstrip("0")
    return "about " + _digits(round(value * 10**6), 6)


def _digits(scaled: int, places: int) -> str:
    text = str(abs(scaled)).rjust(places + 1, "0")
    return "-" * (scaled < 0) + text[:-places] + "." + text[-places:]


def split_symbols(text: str) -> list[str]:
    """'12+(3.5 x 2)' as ['12', '+', '(', '3.5', '*', '2', ')']."""
    symbols, i = [], 0
    while i < len(text):
        start, c = i, text[i]
        i += 1
        if c in "0123456789":
            while i < len(text) and text[i] in "0123456789.":
                i += 1
            number = text[start:i]
            if number.count(".") > 1 or number.endswith("."):
                raise ValueError(f"{number} is no number")
            symbols.append(number)
        elif c in SIGNS:
            symbols.append(SIGNS[c])
        elif not c.isspace():
            raise ValueError(f"did not expect {c}")
    return symbols


def _sum(symbols: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    """The value of the sum that starts at `at`, and where it ends; so the two below."""
    value, at = _product(symbols, at, depth)
    while at < len(symbols) and symbols[at] in ("+", "-"):
        sign = symbols[at]
        right, at = _product(symbols, at + 1, depth)
        value = value + right if sign == "+" else value - right
    return value, at


def _product(symbols: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _atom(symbols, at, depth)
    while at < len(symbols) and symbols[at] in ("*", "/"):
        sign = symbols[at]
        right, at = _atom(symbols, at + 1, depth)
        if sign == "/" and right == 0:
            raise ValueError("division by zero")
        value = value * right if sign == "*" else value / right
    return value, at


def _atom(symbols: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    if depth > DEEPEST:
        raise ValueError("too many brackets")
    if at >= len(symbols):
        raise ValueError("the expression ends too early")
    symbol = symbols[at]
    if symbol == "-":
        value, at = _atom(symbols, at + 1, depth + 1)
        return -value, at
    if symbol == "(":
        value, at = _sum(symbols, at + 1, depth + 1)
        if at >= len(symbols) or symbols[at] != ")":
            raise ValueError("a bracket is not closed")
        return value, at + 1
    if symbol[0] in "0123456789":
        return Fraction(symbol), at + 1
    raise ValueError(f"did not expect {symbol}")
