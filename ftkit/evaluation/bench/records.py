"""The answered items of a benchmark on disk: written as they come, read again after a kill, sorted at the end.

While a task runs, each process appends to OUT/items/TASK.partN.jsonl; a task that is done has one OUT/items/TASK.jsonl.
"""

import dataclasses
import glob
import json
from collections.abc import Iterable
from pathlib import Path

from ftkit.evaluation.bench.results import Item, item_of


def items_file(task_name: str) -> str:
    """The file of a task's items, relative to OUT."""
    return f"items/{task_name.replace('/', '-')}.jsonl"


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
        """All items that were recorded, by id. A line that a kill cut off is not an item."""
        items = {}
        for path in (self.path, *self.parts()):
            if path.is_file():
                items |= {item.item_id: item for item in whole_items(path)}
        return items

    def append(self, items: Iterable[Item]) -> None:
        """Record items of this process, behind a whole line."""
        text = "".join(json_line(item) for item in items)
        with open(self.own_part, "a+b") as file:
            if file.tell():
                file.seek(-1, 2)
                text = text if file.read(1) == b"\n" else "\n" + text
            file.write(text.encode())

    def finish(self, items: list[Item]) -> None:
        """Write the task's one file, in the order given, and drop the parts."""
        temporary = self.path.with_suffix(".writing")
        temporary.write_text("".join(map(json_line, items)), encoding="utf-8")
        temporary.replace(self.path)
        for part in self.parts():
            part.unlink()


def json_line(item: Item) -> str:
    return json.dumps(dataclasses.asdict(item), ensure_ascii=False, allow_nan=False) + "\n"


def whole_items(path: Path) -> Iterable[Item]:
    """The items of a file, without lines that are no items."""
    for line in path.read_bytes().split(b"\n"):
        try:
            yield item_of(line)
        except ValueError:
            continue
