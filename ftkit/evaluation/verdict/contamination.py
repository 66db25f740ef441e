"""Which items of a benchmark were in the training data: their scores say nothing about what a model can do.

for warning in leak_warnings(rows.train, {"mmlu": items}): print(warning)

A question counts as asked where a training text is the same word for word, holds it word for word (questions of at
least six words), or, among not too many rows, is nearly the same.
"""

from collections import defaultdict

from ftkit.data.cleaning.near_duplicates import near_matches, words
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.evaluation.results import Item

NEAR = 0.8  # Jaccard similarity of runs of three words, from which a question counts as the same
MAX_NEAR_ROWS = 20_000  # with more training rows only questions that are the same word for word are found
NUM_WORDS = 6  # of a question that is looked for inside of longer texts; a shorter one is there by chance


def leak_warnings(train_rows: list[dict], items: dict[str, list[Item]]) -> list[str]:
    """A line for each task that has items whose question is, or nearly is, asked in the training rows.

    train_rows: as `load_rows` gives them, with "messages", "prompt" or "text", and "source".
    """
    asked = [(text, row["source"]) for row in train_rows for text in questions_of(row)]
    questions = {task: [bare_question(item) for item in own] for task, own in items.items()}
    same = word_for_word({text for own in questions.values() for text in own}, asked)
    warnings = []
    for task, own in questions.items():
        found = {number: same[text] for number, text in enumerate(own) if text in same}
        if len(asked) <= MAX_NEAR_ROWS:
            for match in near_matches(own, (text for text, _ in asked), NEAR):
                if words(own[match.index]):
                    found.setdefault(match.index, asked[match.other][1])
        if found:
            first = min(found)
            warnings.append(
                f"warning: {task}: {len(found):,} of {len(own):,} items are asked in the training data, the first at "
                f"{found[first]}; those scores show what was learnt by heart"
            )
    return warnings


def nothing_found(num_rows: int) -> str:
    """What can be said where there is no warning."""
    how = "word for word or nearly" if num_rows <= MAX_NEAR_ROWS else "word for word"
    return f"no item was found among the {num_rows:,} training rows, {how}"


def bare_question(item: Item) -> str:
    """What an item asks, without the wording of its task where the run recorded that."""
    return item.extra.get("question") or item.prompt


def questions_of(row: dict) -> list[str]:
    """What a training row asks: the user's turns, or its text."""
    turns = row.get("messages") or row.get("prompt")
    if isinstance(turns, list):
        return [turn["content"].replace(INPUT_MARKER, "\n") for turn in turns if turn["role"] == "user"]
    return [row["text"]] if "text" in row else []


def word_for_word(questions: set[str], asked: list[tuple[str, str]]) -> dict[str, str]:
    """The source of the first training text that is, or holds, each question that is found."""
    whole, beginnings = defaultdict(list), defaultdict(list)
    for question in questions:
        split = words(question)
        if split:
            whole[" ".join(split)].append(question)
        if len(split) >= NUM_WORDS:
            beginnings[tuple(split[:NUM_WORDS])].append((question, split))
    found: dict[str, str] = {}
    for text, source in asked:
        split = words(text)
        for question in whole.get(" ".join(split), ()):
            found.setdefault(question, source)
        for start in range(len(split) - NUM_WORDS + 1):
            for question, sought in beginnings.get(tuple(split[start : start + NUM_WORDS]), ()):
                if split[start : start + len(sought)] == sought:
                    found.setdefault(question, source)
    return found
