"""Files that others made: whatever a library raises on them is one line.

with foreign(folder, "has no tokenizer that loads"):
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftkit.config.errors import UserError, first_line

ASKS_FOR_TRUST = "trust_remote_code=True"  # in transformers' error where a folder's own code would be needed
RUST_PANIC = "PanicException"  # of a library in Rust; no Exception, and in no module to import


@contextmanager
def foreign(subject: str | Path, what: str, fix: str = "") -> Iterator[None]:
    """Inside, any error is a UserError `subject: what (reason); fix`, or says that code of its own would be needed.

    For calls of libraries on what a person was given: such files can make a library raise anything.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != RUST_PANIC:
            raise
        if ASKS_FOR_TRUST in str(error):
            raise UserError(
                f"{subject}: needs Python code of its own, which runs only with --trust_remote_code; read it first, or "
                "choose another model"
            ) from error
        raise UserError(f"{subject}: {what} ({first_line(error)})" + (f"; {fix}" if fix else "")) from error
