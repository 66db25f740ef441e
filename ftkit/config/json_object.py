"""JSON objects in files: configurations, records, receipts. A damaged one is one line, wherever it is read."""

import json
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError


def read_object(path: str | Path, fix: str = "save or download it again") -> dict[str, Any]:
    """The object that a file holds. Raises UserError for bytes that are no UTF-8, no JSON, and no object."""
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); {fix}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}:1: not valid JSON ({error}); {fix}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}:1: expected a JSON object; {fix}")
    return value
