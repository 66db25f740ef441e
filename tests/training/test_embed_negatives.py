"""Hard negatives are near a question, never an answer of it, and as many for each row."""

from types import SimpleNamespace

from ftkit.training.embed.negatives import filled, from_index

ROWS = [
    {"anchor": "a?", "positive": "A one.", "negatives": []},
    {"anchor": "a?", "positive": "A two.", "negatives": []},
    {"anchor": "b?", "positive": "B one.", "negatives": ["given"]},
]


class FakeIndex:
    """Finds for each question what its table says, the best first."""

    def __init__(self, found: dict[str, list[str]]):
        self.found = found

    def search(self, question: str, top_k: int) -> list:
        return [SimpleNamespace(passage=SimpleNamespace(text=text)) for text in self.found[question][:top_k]]


def test_a_passage_that_holds_the_answer_or_lies_in_it_is_no_negative():
    index = FakeIndex({
        "a?": ["A one.", "Before. A   one. After.", "one.", "A two.", "near", "far"], "b?": ["near b", "B one.", "far b"]
    })  # fmt: skip
    mined = from_index(ROWS, index, 2)
    assert [row["negatives"] for row in mined.rows] == [
        ["near", "far"], ["near", "far"], ["near b", "far b", "given"]
    ]  # fmt: skip
    assert mined.num_filled == 0


def test_what_is_missing_is_drawn_from_other_questions():
    mined = from_index(ROWS, FakeIndex({"a?": ["A one."], "b?": []}), 1)
    assert [row["negatives"][0] for row in mined.rows[:2]] == ["B one.", "B one."]
    assert mined.rows[2]["negatives"][0] in ("A one.", "A two.") and mined.num_filled == 3
    assert mined == from_index(ROWS, FakeIndex({"a?": ["A one."], "b?": []}), 1)


def test_no_more_is_drawn_than_there_is():
    assert [len(row["negatives"]) for row in filled(ROWS, [[], [], []], 5, seed=0).rows] == [1, 1, 3]
