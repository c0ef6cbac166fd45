"""Tools of your own: a Python function with typed arguments and a docstring is all that it takes."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sprout.common.errors import UserError
from sprout.engine.constraint import TOOL_NAME
from sprout.engine.tools import JSON_TYPES
from sprout.engine.types import Tool, Toolbox

TYPES = {types[-1]: name for name, types in JSON_TYPES.items()}  # str: "string", float: "number", ...


def tool_from(run: Callable[..., Any], slow: bool = False) -> Tool:
    """A tool of a function: its name, its docstring as the description, its annotated arguments (str, int, float, bool,
    list, dict) as the schema; those with a default may be left out. What it returns becomes text. A `slow` one works
    beside the engine. Raises UserError for a function that can't be called so."""
    name = getattr(run, "__name__", "")
    if not TOOL_NAME.fullmatch(name):
        raise UserError(f"a tool is called {name[:80]!r}; expected 1 to 64 letters, digits, _ or -: give the function a name.")
    properties: dict[str, Any] = {}
    required = []
    for argument in inspect.signature(run, eval_str=True).parameters.values():
        kind = TYPES.get(argument.annotation)
        if kind is None or argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
            raise UserError(
                f"the tool {name} takes {argument}, which no call can give; expected arguments that are annotated with one of: "
                f"{', '.join(t.__name__ for t in TYPES)}."
            )
        properties[argument.name] = {"type": kind}
        if argument.default is argument.empty:
            required.append(argument.name)
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Tool(name, inspect.getdoc(run) or "", parameters, lambda **given: str(run(**given)), slow)


def load_tools(path: Path) -> Toolbox:
    """The tools of a Python file: its list `TOOLS` of functions, or of `Tool`s. The file is run, so it has to be one's own.
    Raises UserError where there is none, or it fails."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"there is no Python file {path}; expected one with a list TOOLS of functions.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        tools = [t if isinstance(t, Tool) else tool_from(t) for t in module.TOOLS]
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} can't be used ({type(error).__name__}: {error}); expected a list TOOLS of functions.") from error
    return {tool.name: tool for tool in tools}
