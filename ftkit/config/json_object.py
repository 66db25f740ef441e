"""JSON objects in files: configurations, records, receipts. A damaged one is one line, wherever it is read."""

import json
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError

MAX_BYTES = 2**26


def read_object(path: str | Path, fix: str = "save or download it again") -> dict[str, Any]:
    """The object that a file holds. Raises UserError for bytes that are no UTF-8, no JSON, no object, or too many."""
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: is larger than {MAX_BYTES >> 20} MiB, which no such file needs; {fix}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); {fix}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of thousands of digits, too deeply nested
        raise UserError(f"{path}:1: not valid JSON ({error}); {fix}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}:1: expected a JSON object; {fix}")
    return value
