"""Answers of many at once against those of one at a time, by the engine of ftkit generate and by PEFT."""

import queue

import pytest
import torch
from batcher_answers import ask, events_of, whole

from ftkit.inference.asking import ModelSettings, Sampling
from ftkit.inference.batching.request import Drawing, QueueFull, Request, UnknownModel
from ftkit.inference.engine import Engine

LONG = "List three colours and say what each of them reminds you of. " * 12
PROMPTS = ("Name a bird that can fly.", "What is 2 + 2?", LONG)


@pytest.fixture(scope="module")
def engine(base_adapters):
    settings = ModelSettings("base", adapters=base_adapters, template="alpaca", dtype="float32")
    return Engine.load(settings, with_base=True)


@pytest.mark.parametrize("name", ["base", "first", "second"])
def test_greedy_answers_are_those_of_generate(batcher, engine, name):
    for prompt in PROMPTS:
        text, ids, last = ask(batcher, name, prompt, max_new_tokens=30)
        expected = engine.answers([[{"role": "user", "content": prompt}]], Sampling(30), name)
        assert [text] == expected
        assert last.finish_reason == ("stop" if len(ids) < 30 or ids[-1] in engine.end_token_ids(name) else "length")


def test_answers_asked_at_once_are_those_asked_one_by_one(batcher):
    asked = [(name, prompt) for prompt in PROMPTS for name in ("base", "first", "second")]
    alone = [ask(batcher, name, prompt, max_new_tokens=20)[:2] for name, prompt in asked]
    together = [events_of(batcher, name, prompt, max_new_tokens=20) for name, prompt in asked]
    assert [whole(events)[:2] for events in together] == alone
    assert len({text for text, _ in alone}) > 6  # the adapters do say other things


def test_log_probabilities_are_those_of_peft_and_the_same_bits_from_kept_blocks(batcher, engine):
    seen = []
    for _ in range(2):
        events = events_of(batcher, "first", LONG, max_new_tokens=5, num_top=2)
        drawn, last = [], None
        while last is None or last.finish_reason is None:
            last = events.get(timeout=60)
            drawn += last.tokens
        seen.append(drawn)
    assert seen[0] == seen[1] and last.num_cached > 64
    prompt = engine.prompt_ids([{"role": "user", "content": LONG}], "first")
    for place, one in enumerate(seen[0]):
        ids = [*prompt, *(before.id for before in seen[0][:place])]
        expected = torch.log_softmax(engine.next_logits(ids, "first").float(), dim=-1)
        assert one.log_prob == pytest.approx(float(expected[one.id]), abs=5e-5)
        assert [token for token, _ in one.top] == expected.topk(2).indices.tolist()


def test_scores_are_those_of_peft(batcher, engine):
    prompt, ending = engine.prompt_ids([{"role": "user", "content": "Name a bird."}], "second"), [71, 77, 90]
    with batcher.registry.pinned("second") as version:
        found = batcher.score(version, prompt, [ending, ending[:1]]).result(timeout=60)
    with engine.speaking("second"), torch.no_grad():
        logits = engine.model(input_ids=torch.tensor([prompt + ending])).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(ending)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(found[0]), expected, atol=5e-5, rtol=0)
    assert found[1] == pytest.approx(found[0][:1], abs=5e-5)


def test_a_seed_draws_the_same_answer_again_whoever_is_answered_beside_it(batcher):
    settings = {"temperature": 1.0, "seed": 7, "max_new_tokens": 12}
    alone = ask(batcher, "first", PROMPTS[0], **settings)[1]
    others = [events_of(batcher, "base", prompt, temperature=1.0, max_new_tokens=12) for prompt in PROMPTS]
    assert ask(batcher, "first", PROMPTS[0], **settings)[1] == alone
    assert ask(batcher, "first", PROMPTS[0], **(settings | {"seed": 8}))[1] != alone
    for events in others:
        whole(events)


def test_a_cancelled_answer_frees_its_place(batcher):
    with batcher.registry.pinned("base") as version:
        events = queue.SimpleQueue()
        settings = Drawing(max_new_tokens=400, ignore_eos=True)
        prompt = version.voice.render([{"role": "user", "content": "Go."}])
        ticket = batcher.submit(Request(version, prompt, settings), events.put)
    events.get(timeout=60)
    ticket.cancel()
    _, ids, last = whole(events)
    assert last.finish_reason == "cancelled" and len(ids) < 400
    ask(batcher, "base", "Name a bird.", max_new_tokens=1)
    assert batcher.stats().running == 0 and batcher.num_open == 0


def test_a_base_without_a_template_is_asked_as_its_first_adapter_is(base_adapters, tmp_path):
    import shutil

    from ftkit.data.templates.templates import install_template
    from ftkit.inference.batching.registry import Registry
    from ftkit.inference.batching.request import Limits
    from ftkit.model.loading import load_tokenizer

    shutil.copytree(base_adapters["first"], tmp_path / "first")
    tokenizer = load_tokenizer(base_adapters["first"])
    install_template(tokenizer, "plain")
    tokenizer.save_pretrained(tmp_path / "first")
    adapters = {"first": str(tmp_path / "first"), "second": base_adapters["first"]}
    found = Registry.load_base(ModelSettings("base", adapters=adapters, dtype="float32"), Limits())
    assert found.versions["base"].voice.template == found.versions["first"].voice.template is not None
    alone = Registry.load_base(ModelSettings("base", dtype="float32"), Limits())
    assert alone.versions["base"].voice.template is None
    assert alone.versions["base"].digest != found.versions["base"].digest


def test_stop_strings_tokens_and_lengths_end_an_answer(batcher):
    text, ids, _ = ask(batcher, "base", PROMPTS[2], max_new_tokens=30, ignore_eos=True)
    assert len(ids) == 30
    cut, cut_ids, last = ask(batcher, "base", PROMPTS[2], max_new_tokens=30, ignore_eos=True, stop=(text[4:7], "never"))
    assert cut == text[: text.index(text[4:7])].rstrip() and last.stop == text[4:7] and len(cut_ids) < 30
    _, stopped, last = ask(batcher, "base", PROMPTS[2], max_new_tokens=30, ignore_eos=True, stop_token_ids=(ids[3],))
    assert stopped == ids[: ids.index(ids[3]) + 1] and last.stop == ids[3] and last.finish_reason == "stop"
    ended = ask(batcher, "base", PROMPTS[0], max_new_tokens=30)[1]
    longer = ask(batcher, "base", PROMPTS[0], max_new_tokens=30, min_tokens=len(ended) + 3)[1]
    assert len(longer) >= len(ended) + 3


def test_more_than_may_wait_are_refused(batcher):
    limit = batcher.limits.num_slots + batcher.limits.max_waiting
    asked = [events_of(batcher, "base", PROMPTS[0], max_new_tokens=1) for _ in range(limit // 2)]
    batcher.num_open += limit  # as if so many more had come
    with pytest.raises(QueueFull, match="are open"):
        events_of(batcher, "base", PROMPTS[0])
    batcher.num_open -= limit
    for events in asked:
        whole(events)
    with pytest.raises(UnknownModel):
        events_of(batcher, "nobody", PROMPTS[0])
    with pytest.raises(ValueError, match=r"has 0 tokens"):
        events_of(batcher, "base", [])
    with pytest.raises(ValueError, match=r"of 512 that prompt and answer can have"):
        events_of(batcher, "base", [5] * 512)
    _, ids, last = ask(batcher, "base", [5] * 510, max_new_tokens=50, ignore_eos=True)
    assert len(ids) == 2 and last.finish_reason == "length"


class Broken:
    """A constraint that fails at its second token."""

    num = 0

    def mask(self, logits_V):
        self.num += 1
        if self.num == 2:
            raise RuntimeError("no such state")

    def accept(self, token):
        pass

    def is_complete(self):
        return False


def test_an_answer_that_fails_ends_alone(batcher):
    beside = events_of(batcher, "first", PROMPTS[2], max_new_tokens=20, ignore_eos=True)
    _, ids, last = ask(batcher, "base", PROMPTS[0], max_new_tokens=20, ignore_eos=True, constraint=Broken())
    assert last.finish_reason == "error" and "no such state" in last.error and len(ids) == 1
    assert whole(beside)[:2] == ask(batcher, "first", PROMPTS[2], max_new_tokens=20, ignore_eos=True)[:2]
    assert batcher.is_alive and batcher.num_open == 0


def test_memory_that_runs_out_is_freed_of_kept_prompts_and_tried_again(batcher, monkeypatch):
    expected = ask(batcher, "base", LONG, max_new_tokens=8)
    step, failed = batcher.slots.step, []

    def once(tokens_B):
        if not failed:
            failed.append(batcher.reader.num_bytes)
            raise torch.OutOfMemoryError
        return step(tokens_B)

    monkeypatch.setattr(batcher.slots, "step", once)
    assert ask(batcher, "base", LONG, max_new_tokens=8)[:2] == expected[:2]
    assert failed[0] > 0 and batcher.reader.num_bytes == 0
