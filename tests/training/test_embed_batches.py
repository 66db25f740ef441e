"""Batches of pairs hold no text twice where that can be, each row once, and are those of the seed and the pass."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit.training.embed.batches import BatchesApart, Texts, apart


def row(anchor, positive, *negatives) -> Texts:
    return Texts(frozenset((anchor, positive)), frozenset((anchor, positive, *negatives)))


def clashes(rows: list[Texts], batch: list[int]) -> set[int]:
    """Rows of a batch of which a text is also another row's, and would count as wrong there."""
    return {
        one for one in batch for other in batch
        if one != other and (rows[one].own & rows[other].every or rows[other].own & rows[one].every)
    }  # fmt: skip


ROWS = st.lists(
    st.builds(row, st.integers(0, 30), st.integers(100, 130), st.integers(100, 160)), min_size=1, max_size=60
)


@given(ROWS, st.integers(1, 8), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_each_row_is_in_one_batch_and_as_few_batches_are_made_as_there_can_be(rows, batch_size, seed):
    batches, num_clashing = apart(rows, batch_size, seed)
    assert sorted(number for batch in batches for number in batch) == list(range(len(rows)))
    assert len(batches) == -(-len(rows) // batch_size)
    assert all(len(batch) <= batch_size for batch in batches)
    beside = set().union(*(clashes(rows, batch) for batch in batches))
    assert bool(beside) == bool(num_clashing) and num_clashing <= len(beside)
    assert (batches, num_clashing) == apart(rows, batch_size, seed)


# (rows, batch size, rows that must clash)
CASES = {
    "every text once": ([row(n, 100 + n) for n in range(40)], 8, 0),
    "each question twice": ([row(n // 2, 100 + n) for n in range(40)], 8, 0),
    "each passage twice": ([row(n, 100 + n // 2) for n in range(40)], 8, 0),
    "a negative is another row's passage": ([row(n, 100 + n, 100 + (n + 1) % 40) for n in range(40)], 8, 0),
    "one negative of all": ([row(n, 100 + n, 999) for n in range(40)], 8, 0),
    "one question alone": ([row(1, 100 + n) for n in range(8)], 8, 7),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_texts_stand_apart_where_there_is_room(case):
    rows, batch_size, wanted = CASES[case]
    for seed in range(5):
        batches, num_clashing = apart(rows, batch_size, seed)
        assert num_clashing == wanted
        assert wanted or not any(clashes(rows, batch) for batch in batches)


def test_a_pass_is_drawn_again_whatever_came_before():
    rows = CASES["each question twice"][0]
    one = BatchesApart(rows, 8, drop_last=False, seed=3)
    passes = []
    for epoch in range(3):
        one.set_epoch(epoch)
        passes.append(list(one))
    fresh = BatchesApart(rows, 8, drop_last=False, seed=3)
    fresh.set_epoch(2)
    assert list(fresh) == passes[2] and passes[0] != passes[1] and len(fresh) == 5


def test_a_cut_last_batch_can_be_left_out():
    rows = [row(n, 100 + n) for n in range(10)]
    assert [len(batch) for batch in BatchesApart(rows, 4, drop_last=True, seed=0)] == [4, 4]
