"""Test rows among the training rows are found, the short ones too."""

from ftkit.data.overlap import copies_of_test_rows


def chat(question, answer, source):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "source": source}


def test_copies_are_named_in_the_order_of_the_test_rows_also_short_ones():
    train = [chat("Hi", "Yo", "a:1"), chat("2+2?", "4", "a:2"), chat("Hi", "Yo", "a:3"), chat("Hi", "Hello", "a:4")]
    test = [chat("2+2?", "4", "b:1"), chat("2+3?", "4", "b:2"), chat("Hi", "Yo", "b:3"), chat("2+2?", "5", "b:4")]
    assert copies_of_test_rows(train, test) == [("a:2", "b:1"), ("a:1", "b:3")]


def test_white_space_makes_no_other_row_but_case_and_turns_do():
    train = [chat("Write in upper case:\n x", "X", "a:1")]
    test = [chat(" Write in  upper case: x", "X\n", "b:1"), chat("Write in upper case: x", "x", "b:2")]
    assert copies_of_test_rows(train, test) == [("a:1", "b:1")]
    assert not copies_of_test_rows(train, [{"text": "Write in upper case: x X", "source": "b:3"}])


def test_every_kind_of_row_is_compared():
    pair = {"prompt": [{"role": "user", "content": "Q"}], "chosen": "a", "rejected": "b"}
    for row in ({"text": "one"}, {"text": "one", "label": 1}, pair):
        assert copies_of_test_rows([row | {"source": "a:1"}], [row | {"source": "b:2"}]) == [("a:1", "b:2")]
    swapped = pair | {"chosen": "b", "rejected": "a", "source": "b:1"}
    assert not copies_of_test_rows([pair | {"source": "a:1"}], [swapped])


def test_what_a_row_carries_beside_its_content_is_not_compared():
    train, test = chat("Q", "A", "a:1") | {"num_prompt_messages": 1}, chat("Q", "A", "b:1")
    assert copies_of_test_rows([train], [test]) == [("a:1", "b:1")]
