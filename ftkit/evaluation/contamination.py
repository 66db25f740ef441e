"""Which items of a benchmark were in the training data: their scores say nothing about what a model can do.

for warning in leak_warnings(rows.train, {"mmlu": items}): print(warning)
"""

from ftkit.data.near_duplicates import near_matches, words
from ftkit.evaluation.results import Item

NEAR = 0.8  # Jaccard similarity of runs of three words, from which a question counts as the same
MAX_NEAR_ROWS = 20_000  # with more training rows only questions that are the same word for word are found


def leak_warnings(train_rows: list[dict], items: dict[str, list[Item]]) -> list[str]:
    """A line for each task that has items whose question is, or nearly is, asked in the training rows.

    train_rows: as `load_rows` gives them, with "messages", "prompt" or "text", and "source".
    """
    asked = [(text, row["source"]) for row in train_rows for text in questions_of(row)]
    exact = {" ".join(words(text)): source for text, source in reversed(asked)}
    warnings = []
    for task, own in items.items():
        found = {number: exact[key] for number, key in enumerate(map(key_of, own)) if key in exact}
        if len(asked) <= MAX_NEAR_ROWS:
            texts = [item.prompt for item in own]
            for match in near_matches(texts, (text for text, _ in asked), NEAR):
                found.setdefault(match.index, asked[match.other][1])
        if found:
            first = min(found)
            warnings.append(
                f"warning: {task}: {len(found):,} of {len(own):,} items are asked in the training data, the first at "
                f"{found[first]}; those scores tell what was learnt by heart"
            )
    return warnings


def key_of(item: Item) -> str:
    return " ".join(words(item.prompt))


def questions_of(row: dict) -> list[str]:
    """What a training row asks: the user's turns, or its text."""
    turns = row.get("messages") or row.get("prompt")
    if isinstance(turns, list):
        return [turn["content"] for turn in turns if turn["role"] == "user"]
    return [row["text"]] if "text" in row else []
