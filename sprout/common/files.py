"""Files that are either whole or absent: write to a temporary name, sync, rename."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from sprout.common.errors import UserError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` in one step; a crash leaves the old file or the new one, never half. Raises UserError
    where the disk is full or can't be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(
            f"{path} could not be written: {error.strerror or error}. Nothing that was there before is lost; make room on "
            "the disk, or name a folder that can be written, and run the same command again."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises UserError for a file that is missing, torn or none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}, not an object")
        return found
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged or can't be read ({error}); restore it from a copy.") from error


def check_folder(path: Path) -> None:
    """Whether files can be written into the folder, which need not be there yet. Raises UserError; changes nothing."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file; expected a folder, a new one or that of a run to go on with.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"nothing can be written into {there}; name another folder or change its permissions.")
