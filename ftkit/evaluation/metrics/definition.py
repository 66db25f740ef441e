"""What every metric says about itself, and the input that none of them accepts."""

from collections.abc import Sequence

import datasets
import evaluate

TEXTS = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}


def metric_info(kind: type, description: str, features: dict | list[dict]):
    """The MetricInfo or MeasurementInfo of a metric. features: of one item, or the alternatives of it."""
    alternatives = [datasets.Features(one) for one in (features if isinstance(features, list) else [features])]
    usage = "compute(" + ", ".join(f"{name}=[...]" for name in alternatives[0]) + ")"
    return kind(
        description=description,
        citation="",
        inputs_description=usage,
        features=alternatives[0] if len(alternatives) == 1 else alternatives,
    )


def text_metric_info(description: str):
    """The info of a metric that compares one predicted text with one reference text."""
    return metric_info(evaluate.MetricInfo, description, TEXTS)


def check_items(*columns: Sequence) -> None:
    """Raise ValueError for no items: the mean of nothing would be NaN, and pass for a number."""
    if len(columns[0]) == 0:
        raise ValueError("no items to score; give at least one")
    if any(len(column) != len(columns[0]) for column in columns):
        raise ValueError(f"columns of {', '.join(str(len(column)) for column in columns)} items; give one each an item")
