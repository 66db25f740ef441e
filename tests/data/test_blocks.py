"""Documents become blocks: nothing is lost or doubled but the rest, ends are marked, documents can be kept apart."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from ftkit.config.errors import UserError
from ftkit.data.tokens.blocks import (
    BlockCollator,
    block_dataset,
    block_stream,
    format_block,
    join_blocks,
    shuffled,
    tokenize_documents,
)


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return AutoTokenizer.from_pretrained(tiny_folder)


def arrays(*documents) -> list[np.ndarray]:
    return [np.array(document, dtype=np.int32) for document in documents]


def test_blocks_hold_the_documents_one_behind_the_other():
    blocks = list(join_blocks(arrays([1, 2, 0], [3, 4, 5, 6, 0], [7, 0]), 4))
    assert [block["input_ids"].tolist() for block in blocks] == [[1, 2, 0, 3], [4, 5, 6, 0]]
    assert [block["seq_lengths"] for block in blocks] == [[3, 1], [4]]
    rest = list(join_blocks(arrays([1, 2, 0], [3, 0]), 4, keep_rest=True))[-1]
    assert rest["input_ids"].tolist() == [0] and rest["seq_lengths"] == [1]


def test_every_token_is_in_exactly_one_block():
    rng = np.random.default_rng(0)
    documents = arrays(*(rng.integers(1, 99, size) for size in rng.integers(1, 40, 50)))
    joined = np.concatenate([block["input_ids"] for block in join_blocks(documents, 8, keep_rest=True)])
    assert joined.tolist() == np.concatenate(documents).tolist()


def test_each_document_ends_with_the_end_token_and_control_tokens_in_a_text_stay_text(tokenizer):
    found = tokenize_documents(["ba <eos> co", "äö"], tokenizer)
    assert [ids[-1] for ids in found.ids] == [tokenizer.eos_token_id] * 2
    assert tokenizer.eos_token_id not in found.ids[0][:-1]
    assert tokenizer.decode(found.ids[0][:-1]) == "ba <eos> co"
    assert found.num_bytes == 11 + 4 and found.num_tokens == sum(map(len, found.ids))


def test_the_order_depends_on_the_seed_only(tokenizer):
    items = list(range(100))
    assert shuffled(items, 1) == shuffled(items, 1) != shuffled(items, 2)
    assert sorted(shuffled(items, 1)) == items == list(range(100))
    documents = tokenize_documents([f"ba{letter}" for letter in "abcdefgh"], tokenizer)
    first, again, other = (block_dataset(documents, 4, seed)["input_ids"][:] for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_without_isolation_all_but_the_first_token_of_a_block_is_a_target():
    batch = BlockCollator(isolate=False)([{"input_ids": [5, 6, 0, 7], "seq_lengths": [3, 1]}])
    assert batch["labels"].tolist() == [[-100, 6, 0, 7]] and set(batch) == {"input_ids", "labels"}


def test_with_isolation_positions_restart_and_no_document_begins_as_a_target():
    blocks = [{"input_ids": [5, 6, 0, 7], "seq_lengths": [3, 1]}, {"input_ids": [1, 2, 3, 4], "seq_lengths": [4]}]
    batch = BlockCollator(isolate=True)(blocks)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0], [0, 1, 2, 3]]
    assert batch["labels"].tolist() == [[-100, 6, 0, -100], [-100, 2, 3, 4]]


def test_a_stream_gives_the_same_blocks_at_each_pass_and_as_a_whole_dataset_does(tokenizer):
    texts = [f"ba{letter} co{letter}" for letter in "lmnprstv"]
    stream = block_stream(texts, tokenizer, 6, seed=0)
    first, again = ([tuple(block["input_ids"]) for block in stream] for _ in range(2))
    whole = block_dataset(tokenize_documents(texts, tokenizer), 6, None)
    assert first == again and sorted(first) == sorted(map(tuple, whole["input_ids"][:].tolist()))


def test_too_little_text_is_said(tokenizer):
    with pytest.raises(UserError, match="do not fill one block of 512; give more text or a smaller --block_size"):
        block_dataset(tokenize_documents(["ba"], tokenizer), 512, 0)
    tokenizer.eos_token, end = None, tokenizer.eos_token
    with pytest.raises(UserError, match="has no eos token to end a document"):
        tokenize_documents(["ba"], tokenizer)
    tokenizer.eos_token = end


def test_a_shown_block_pairs_each_input_with_its_target(tokenizer):
    documents = tokenize_documents(["bal", "com"], tokenizer)
    block = next(join_blocks(documents.ids, documents.num_tokens - 1))
    lines = format_block(block, tokenizer).splitlines()
    assert len(lines) == len(block["input_ids"])  # a heading, and no target behind the last
    first, second = (tokenizer.decode([int(token)]) for token in block["input_ids"][:2])
    assert lines[1].split() == ["0", repr(first), "→", repr(second)]
    apart = format_block(block, tokenizer, isolate=True)
    assert apart.count("not trained: another document begins") == 1
