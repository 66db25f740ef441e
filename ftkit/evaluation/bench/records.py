"""The answered items of a benchmark on disk: written as they come, read again after a kill, sorted at the end.

While a task runs, each process appends to OUT/items/TASK.partN.jsonl; a task that is done has one OUT/items/TASK.jsonl.
"""

import dataclasses
import glob
from collections.abc import Iterable
from pathlib import Path

from ftkit.config.jsonl import append_jsonl, read_jsonl, write_jsonl
from ftkit.evaluation.results import Item, item_of, items_file


class ItemRecords:
    """The items of one task in one output folder. rank: number of this process."""

    def __init__(self, output_dir: str | Path, task_name: str, rank: int = 0):
        self.path = Path(output_dir) / items_file(task_name)
        self.own_part = self.path.with_suffix(f".part{rank}.jsonl")
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def parts(self) -> list[Path]:
        """Files of an unfinished task, of all processes."""
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.stem)}.part*.jsonl"))

    def read(self) -> dict[str, Item]:
        """All items that were recorded, by id. A line that is no item is passed over, and asked again."""
        items = {}
        for path in (self.path, *self.parts()):
            whole = read_jsonl(path, item_of, report=lambda mistake: None)
            items |= {item.item_id: item for item in whole}
        return items

    def append(self, items: Iterable[Item]) -> None:
        """Record items of this process."""
        append_jsonl(self.own_part, map(dataclasses.asdict, items))

    def finish(self, items: list[Item]) -> None:
        """Write the task's one file, in the order given, and drop the parts."""
        write_jsonl(self.path, map(dataclasses.asdict, items))
        for part in self.parts():
            part.unlink()
