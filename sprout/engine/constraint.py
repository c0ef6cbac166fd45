"""What a reply, or a call, must be: grammars that leave only those tokens that can still lead to a well-formed text.

The parsing is llguidance's; here stand the grammars we make, their check, and the mask over our vocabulary.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from sprout.common.errors import UserError
from sprout.engine.types import Tool
from sprout.tokenizer import Tokenizer

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# As the chat format and json.dumps write JSON; with free white space a small model might write nothing else.
WRITTEN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
LONGEST_GRAMMAR = 100_000  # characters


def json_grammar(schema: dict[str, Any]) -> str:
    """The grammar of JSON values that fit a JSON schema. Raises UserError for a schema that can't be kept to."""
    text = json.dumps(schema, ensure_ascii=False)
    if len(text) > LONGEST_GRAMMAR:
        raise UserError(f"the JSON schema has {len(text)} characters; expected at most {LONGEST_GRAMMAR}.")
    try:
        grammar = LLMatcher.grammar_from_json_schema(text, overrides=WRITTEN)  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(f"the JSON schema can't be kept to: {first_line(error)}") from error
    check_grammar(grammar)
    return grammar


def json_object_grammar() -> str:
    """The grammar of any JSON object."""
    return json_grammar({"type": "object"})


def calls_grammar(tools: Sequence[Tool], only: str = "") -> str:
    """The grammar of what may follow <|call|>: a tool's name and arguments of its schema; of one tool alone if `only`
    names it. Raises UserError for a name or schema that can't be."""
    rules = []
    for tool in tools:
        if not TOOL_NAME.fullmatch(tool.name):
            raise UserError(f"a tool is called {tool.name[:80]!r}; expected 1 to 64 letters, digits, _ or -.")
        if only in ("", tool.name):
            schema = {"type": "object", "properties": {}, **tool.parameters, "x-guidance": WRITTEN}
            rules.append(f"{json.dumps(tool.name + ' ')} %json {json.dumps(schema, ensure_ascii=False)}")
    grammar = LLMatcher.grammar_from_lark("start: " + "\n     | ".join(rules))
    check_grammar(grammar)
    return grammar


@functools.lru_cache(maxsize=256)
def check_grammar(grammar: str) -> None:
    """Raise UserError if nothing can be made of a grammar."""
    if len(grammar) > 2 * LONGEST_GRAMMAR:
        raise UserError(f"the grammar has {len(grammar)} characters; expected at most {2 * LONGEST_GRAMMAR}.")
    wrong, messages = LLMatcher.validate_grammar_with_warnings(grammar, limits=limits())
    if wrong:
        raise UserError(f"the schema or grammar can't be kept to: {first_line(messages[0] if messages else '')}")


def limits() -> LLParserLimits:
    """How much work a grammar may make; a hostile one ends in an error instead of holding everybody up."""
    return LLParserLimits(
        initial_lexer_fuel=300_000, step_lexer_fuel=100_000, step_max_items=20_000, max_lexer_states=50_000,
        max_grammar_size=200_000,
    )  # fmt: skip


def first_line(what: object) -> str:
    return str(what).strip().splitlines()[0][:300] if str(what).strip() else "no reason is given"


class Grammars:
    """Compiled grammars over one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._vocabulary: LLTokenizer | None = None
        self.compiled = functools.lru_cache(maxsize=64)(self._compile)

    def _compile(self, grammar: str) -> LLMatcher:
        if self._vocabulary is None:
            self._vocabulary = LLTokenizer(Vocabulary(self.tokenizer), eos_token=self._ends())  # type: ignore[arg-type]
        check_grammar(grammar)
        return LLMatcher(self._vocabulary, grammar, log_level=0, limits=limits())

    def _ends(self) -> list[int]:
        return [self.tokenizer.specials["<|end|>"], self.tokenizer.specials["<|endoftext|>"]]

    def guide(self, grammar: str) -> Guide:
        """A guide at its beginning, to be copied before use. Raises UserError for a grammar that nothing can be made of."""
        matcher = self.compiled(grammar)
        if matcher.is_error():
            raise UserError(f"the schema or grammar can't be kept to: {first_line(matcher.get_error())}")
        return Guide(matcher)


class Vocabulary:
    """Our tokenizer as llguidance wants to see one."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = tokenizer.specials["<|end|>"], None
        self.tokens = [*tokenizer.tokens, *(name.encode() for name in tokenizer.specials)]
        self.special_token_ids = list(tokenizer.specials.values())

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)


class Guide:
    """Where one text is in its grammar; `fresh` until the first token."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher, self.fresh = matcher, True

    def copy(self) -> Guide:
        """Another one at the same place."""
        return Guide(self._matcher.deep_copy())

    def allowed(self) -> np.ndarray | None:
        """Which ids may come next, (V,) bool; the ends of messages and documents are there where the text may end. None
        if the grammar got to be too much work."""
        allowed = np.frombuffer(self._matcher.compute_logit_bias(), np.uint8) > 0
        return None if self._matcher.is_error() else allowed

    def take(self, token: int) -> None:
        """Go on by a chosen id."""
        self._matcher.consume_token(token)
        self.fresh = False
