"""Adapters swapped while they are asked: no bit of an answer depends on what was asked before or is asked beside it."""

import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from batched import LOGITS, SECONDS, Answered, answer, ask, held, is_near_tie, num_near_ties

from ftkit.inference.asking import BASE, ModelSettings
from ftkit.inference.batching.batcher import Batcher
from ftkit.inference.batching.request import Limits

LONG = "Read what follows, and then say in a few words what it is about. " * 6  # several blocks of a prompt
QUESTIONS = [
    [{"role": "user", "content": text}]
    for text in ("Name a bird.", "What is 2 + 2?", LONG, LONG + "Be brief.", "Write the plural of: mouse")
]


@contextmanager
def loaded(adapters: dict[str, str], **limits):
    batcher = Batcher.load(
        ModelSettings("base", adapters=adapters, template="alpaca", dtype="float32"), Limits(**limits)
    )
    try:
        yield batcher
    finally:
        batcher.close()


@pytest.fixture(scope="module")
def batcher(base_adapters):
    with loaded(base_adapters, num_slots=16, max_waiting=200) as made:
        yield made


@pytest.fixture(scope="module")
def alone(base_adapters) -> dict[tuple[str, int], Answered]:
    """The answer under each name to each question, by an engine that is asked nothing else and keeps nothing."""
    with loaded(base_adapters, prefix_gib=0) as made:
        cases = itertools.product((BASE, *base_adapters), range(len(QUESTIONS)))
        return {(name, number): answer(made, name, QUESTIONS[number]) for name, number in cases}


@pytest.mark.parametrize("names", [("first", "second", "first"), (BASE, "first", BASE), ("third", BASE, "third")])
@pytest.mark.parametrize("drawing", [{}, {"temperature": 1.0, "seed": 7, "top_p": 0.9}], ids=["greedy", "drawn"])
def test_swapping_there_and_back_changes_no_bit(batcher, alone, names, drawing):
    for number in (0, 2):
        first, between, last = (answer(batcher, name, QUESTIONS[number], **drawing) for name in names)
        if not drawing:
            assert first.tokens == alone[names[0], number].tokens and between.tokens == alone[names[1], number].tokens
        assert first.tokens == last.tokens and first.text == last.text  # log-probabilities too
        assert between.digest != first.digest == last.digest
        assert [token.top for token in between.tokens] != [token.top for token in first.tokens]
    assert last.num_cached >= 64  # though it was not read again


def test_a_mixed_batch_answers_each_as_alone(batcher, alone):
    before = batcher.stats().num_steps
    with held(batcher):
        asked = []
        for name, number in alone:
            with batcher.registry.pinned(name) as version:
                asked.append(ask(batcher, version, QUESTIONS[number]))
    together = [future.result(SECONDS) for future in asked]
    assert batcher.stats().num_steps - before < 4 * 12  # they were answered side by side
    assert num_near_ties(list(alone.values()), together) <= 1
    assert len({tuple(one.ids) for one in alone.values()}) > 12


def test_the_logits_of_a_mixed_batch_are_those_of_each_alone(batcher):
    versions = []
    for name in ("first", BASE, "second", "third", "first"):
        with batcher.registry.pinned(name) as version:
            versions.append(version)
    ids = torch.tensor([versions[0].voice.render(QUESTIONS[2])])

    def logits(chosen) -> torch.Tensor:
        routing = [(version.parts, slice(row, row + 1)) for row, version in enumerate(chosen) if version.parts]
        with batcher.router.routes(routing):
            return batcher.model(input_ids=ids.expand(len(chosen), -1), use_cache=False).logits.float()

    mixed = batcher.do(lambda: logits(versions)).result(SECONDS)
    alone = batcher.do(lambda: torch.cat([logits([version]) for version in versions])).result(SECONDS)
    assert (mixed - alone).abs().max() <= LOGITS
    assert all((alone[row] - alone[1]).abs().max() > 100 * LOGITS for row in (0, 2, 3))


class Swaps:
    """A name that points to another adapter again and again; what it may point to at any moment is known."""

    def __init__(self, batcher, folders: list[str]):
        self.batcher, self.folders = batcher, folders
        self.num_begun = self.num_done = 0
        self.swap()

    def swap(self) -> None:
        """Let the name point to the next adapter."""
        folder = self.folders[self.num_begun % len(self.folders)]
        self.num_begun += 1
        self.batcher.registry.load("swapped", folder, in_place=True)
        self.num_done += 1

    def asked(self, question: list[dict], possible: list[str]):
        """The answer under the name, after a look at whether the version is one that the name had at that time."""
        done = self.num_done
        with self.batcher.registry.pinned("swapped") as version:
            begun = self.num_begun
            current = {possible[number % len(possible)] for number in range(done - 1, begun)}
            assert version.digest in current, "an old version"
            return ask(self.batcher, version, question).result(SECONDS)


def swapped_under(batcher, alone, adapters: dict[str, str], *, clients: int, requests: int) -> tuple[int, int]:
    """(answers, near ties among them) of clients that ask while the adapter is replaced in place."""
    by_digest = {alone[name, 0].digest: name for name in adapters}
    swaps, is_over = Swaps(batcher, list(adapters.values())), threading.Event()

    def client(number: int) -> int:
        draw, ties = random.Random(number), 0
        for _ in range(requests):
            question = draw.randrange(len(QUESTIONS))
            found = swaps.asked(QUESTIONS[question], list(by_digest))
            ties += is_near_tie(alone[by_digest[found.digest], question], found)
        return ties

    def replace() -> None:
        while not is_over.is_set():
            swaps.swap()

    replacing = threading.Thread(target=replace)
    replacing.start()
    try:
        with ThreadPoolExecutor(clients) as pool:
            ties = sum(pool.map(client, range(clients)))
    finally:
        is_over.set()
        replacing.join()
        batcher.registry.unload("swapped")
    assert swaps.num_done >= 3
    return clients * requests, ties


def test_answers_while_the_adapter_is_replaced_are_those_of_one_version(batcher, alone, base_adapters):
    answers, ties = swapped_under(batcher, alone, base_adapters, clients=8, requests=3)
    assert ties <= 0.05 * answers
    assert batcher.stats().cached_prompt_tokens > 0


@pytest.mark.slow
def test_64_clients_while_the_adapter_is_replaced_get_answers_of_one_version(batcher, alone, base_adapters):
    answers, ties = swapped_under(batcher, alone, base_adapters, clients=64, requests=10)
    print(f"{answers} answers, {ties} near ties")
    assert ties <= 0.02 * answers
