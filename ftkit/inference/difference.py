"""How differently two models, or adapters, answer: divergence on rows, and answers side by side.

record, talks = compared("runs/a", "runs/b", Measuring(), num_answers=3)
"""

from typing import Any

from ftkit.data.rows.questions import question_and_answer
from ftkit.inference.asking import Sampling
from ftkit.inference.certified import Side, certify, load_side
from ftkit.inference.computed import Measuring
from ftkit.inference.engine import Engine, template_of
from ftkit.model.alike import check_alike

ANSWER_TOKENS = 48


def compared(first: str, second: str, by: Measuring, num_answers: int) -> tuple[dict[str, Any], list[tuple[str, dict]]]:
    """The Divergence of B from A with where its rows are from, and (question, answers of "A" and "B") of the first.

    Both are read by A's tokenizer and template. Raises UserError for different vocabularies.
    """
    source, rows = by.rows(first)
    sides = {
        letter: load_side(name, by.base, trust_remote_code=by.trust_remote_code)
        for letter, name in (("A", first), ("B", second))
    }
    check_alike(dict(zip((first, second), (side.tokenizer for side in sides.values()), strict=True)), templates=False)
    one, two = sides.values()
    record = {
        "made_of": [first, second], "rows": source, "reference": one.what,
        "same_template": one.tokenizer.chat_template == two.tokenizer.chat_template,
    }  # fmt: skip
    record |= certify(one.model, two.model, rows, one.tokenizer, by.max_kl)
    return record, answers(sides, rows[:num_answers])


def answers(sides: dict[str, Side], rows: list[dict]) -> list[tuple[str, dict]]:
    """What each side answers to the rows' questions, greedily, rendered as its own template does; none for texts."""
    talks = [question_and_answer(row)[0] for row in rows if "messages" in row]
    found = {}
    for letter, side in sides.items() if talks else ():
        engine = Engine.of(side.model, side.tokenizer, template_of(side.tokenizer, "auto"))
        found[letter] = engine.answers(talks, Sampling(max_new_tokens=ANSWER_TOKENS))
    return [
        (talk[-1]["content"] if talk else "", {letter: [texts[place]] for letter, texts in found.items()})
        for place, talk in enumerate(talks)
    ]
