"""A progress bar for reading files: on a terminal, in the first process, and only where reading takes a while.

with reading_bar([Path("train.jsonl")]) as progress:
    records = list(iter_records("train.jsonl", progress=progress))
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ftkit.config.launch import is_first_process
from ftkit.data.reading.text_file import Progress

DELAY_SECONDS = 1.0  # before the bar is shown


@contextmanager
def reading_bar(paths: Sequence[Path]) -> Iterator[Progress | None]:
    """Yield a function that takes the number of bytes read so far, or None where nobody would see a bar."""
    if not is_first_process() or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    size = sum(path.stat().st_size for path in paths)
    with tqdm(total=size, desc=paths[0].name, unit="B", unit_scale=True, delay=DELAY_SECONDS, leave=False) as bar:
        yield lambda num_bytes: bar.update(num_bytes - bar.n)
