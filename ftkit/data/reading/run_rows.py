"""The rows of a run, loaded again as its settings say.

rows_of(read_run_yaml("runs/first"), kind=CONVERSATIONS).test
"""

from typing import Any

from ftkit.data.reading.loading import load_rows
from ftkit.data.reading.read_as import ReadAs
from ftkit.data.rows.columns import RowKind

SETTINGS = {  # of a run -> of `load_rows` and `load_documents`
    "dataset_format": "format", "dataset_config": "config", "dataset_train_split": "train_split",
    "dataset_test_split": "test_split", "test_size": "test_size",
}  # fmt: skip
TRAINER_SEED = 42  # transformers' default, which run.yaml leaves out


def loading_settings(settings: dict) -> dict[str, Any]:
    """What a run gave `load_rows` beside the data's name, by the names that it has there."""
    given = {name: settings[key] for key, name in SETTINGS.items() if settings.get(key) is not None}
    read_as = ReadAs.of(settings.get("columns"), settings.get("encoding"), settings.get("join_turns", False))
    return given | {"seed": settings.get("seed", TRAINER_SEED), "read_as": read_as}


def rows_of(settings: dict, kind: RowKind):
    """A run's training and held-out rows. Raises UserError where they were moved or don't fit `kind`."""
    return load_rows(settings["dataset_name"], kind=kind, **loading_settings(settings))
