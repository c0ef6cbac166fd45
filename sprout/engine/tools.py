"""Tools that the model may call: what one is, how a call is run, and the two that come with the house."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sprout.common.messages import ToolCall
from sprout.engine.calculator import calculate
from sprout.engine.sandbox import run_python, why_unavailable
from sprout.engine.types import Tool, Toolbox
from sprout.world import World

LONGEST_RESULT = 400  # characters; what is longer is cut and ends in '...'
MALFORMED = "Error: the call is not a name and a JSON object"

JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,),
    "array": (list,), "object": (dict,),
}  # fmt: skip


def run_tool(toolbox: Toolbox, allowed: Sequence[str], call: ToolCall | None) -> str:
    """The result of a call as text; None is a malformed one. Whatever goes wrong is a result as well: 'Error: ...'."""
    if call is None:
        return MALFORMED
    tool = toolbox.get(call.name) if call.name in allowed else None
    if tool is None or tool.run is None:
        return _cut(f"Error: there is no tool {call.name[:40]}")
    try:
        arguments = json.loads(call.arguments)
        wrong = check_arguments(arguments, tool.parameters)
        return _cut(f"Error: {wrong}" if wrong else tool.run(**arguments))
    except (Exception, SystemExit) as error:  # a tool's failure is news for the model, not the end of everybody's batch
        return _cut(f"Error: {error}")


def check_arguments(arguments: Any, parameters: dict[str, Any]) -> str:
    """What is wrong with a call's arguments under a flat JSON schema; empty if nothing is."""
    if not isinstance(arguments, dict):
        return "the arguments are not a JSON object"
    known = parameters.get("properties", {})
    for name in parameters.get("required", ()):
        if name not in arguments:
            return f"the argument {name} is missing"
    for name, value in arguments.items():
        if name not in known:
            return f"there is no argument {name[:40]}"
        kind = known[name].get("type")
        right = isinstance(value, JSON_TYPES.get(kind, (object,)))
        if not right or (isinstance(value, bool) and kind in ("number", "integer")):
            return f"the argument {name} is not a {kind}"
    return ""


def _cut(text: str) -> str:
    text = str(text).encode("utf-8", "replace").decode()  # half a surrogate pair, which JSON can spell, is no text
    return text if len(text) <= LONGEST_RESULT else text[: LONGEST_RESULT - 4] + " ..."


def one_text(argument: str, description: str) -> dict[str, Any]:
    """The schema of a tool that takes one string."""
    properties = {argument: {"type": "string", "description": description}}
    return {"type": "object", "properties": properties, "required": [argument]}


def calculator() -> Tool:
    """Sums, exactly."""
    return Tool("calculator", "Works out an expression.", one_text("expression", "for example 12 + 30"), calculate)


def lookup(world: World) -> Tool:
    """The almanac of the world: one line about everybody and everything that has a name."""
    return Tool("lookup", "Reads the almanac's entry of a name.", one_text("name", "a full name"), world.lookup)


def python_tool() -> Tool:
    """Python in a sandbox, for 5 seconds at most. The result is what was printed, then 'Error: ...' if the code did not
    run to its end; of what is too long the middle is left out."""

    def run(code: str) -> str:
        outcome = run_python(code)
        text = outcome.output.rstrip("\n")
        why = "" if outcome.finished else ("\n" if text else "") + f"Error: {outcome.reason}"
        room = LONGEST_RESULT - len(why)
        if len(text) > room:
            half = (room - 5) // 2
            text = f"{text[:half]} ... {text[-half:]}"
        return text + why

    return Tool("python", "Runs Python code.", one_text("code", "for example sum(range(10))"), run, slow=True)


def toolbox_for(world: World | None, python: bool = False) -> Toolbox:
    """The calculator, and the almanac of the world where there is one; Python only if asked for, where its sandbox
    works."""
    tools = [calculator()] if world is None else [calculator(), lookup(world)]
    if python and not why_unavailable():
        tools.append(python_tool())
    return {tool.name: tool for tool in tools}
