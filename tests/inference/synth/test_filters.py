"""What is dropped and why: broken rules, duplicates, held-out questions in the same words and in others."""

import pytest
import torch

from ftkit.inference.synth import prompts
from ftkit.inference.synth.filters import Sieve, rule_broken
from ftkit.inference.synth.held_out import HeldOut, HeldOutQuestion, read_held_out
from ftkit.inference.synth.items import Draft
from ftkit.inference.synth.replies import cleaned, first_part, first_question

QUESTION = "Name a river that flows through Vienna."
LONG = "The Danube rises in the Black Forest and flows to the Black Sea through ten countries on its way there."


def draft(question=QUESTION, answer="The Danube flows through Vienna.", is_new=True) -> Draft:
    return Draft(question, answer, {}, is_new)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (draft(), ""),
        (draft(answer=" \n"), "empty answer"),
        (draft(question="Hello there"), "question too short or too long"),
        (draft(question="why " * 300), "question too short or too long"),
        (draft(answer="word " * 900), "answer too long"),
        (draft(answer="I'm sorry, but I can't help with that."), "a refusal, or the model speaks of itself"),
        (draft(answer="As an AI language model, I like the Danube."), "a refusal, or the model speaks of itself"),
        (draft(answer="It is long.\nSee the Danube.\nSee the Danube.\nSee the Danube."), "the answer repeats itself"),
        (draft(answer=f"{LONG} {LONG}"), "the answer repeats itself"),
        (draft(answer=LONG), ""),
        (draft(answer=QUESTION), "the answer is the question"),
        (draft(question="What does the passage say about Vienna?"), "the question is about a text that is not there"),
        (draft(question="Sum up the following article in one line."), "the question is about a text that is not there"),
        (draft(question="Sum up the following text: Vienna lies on the Danube."), ""),
        (draft(answer="The Danube.\nTask: Name another river."), "words of a form are left over"),
        (draft(question="Write a letter to [insert name] about rivers."), "words of a form are left over"),
        (draft(question="Hello", is_new=False), ""),  # a person's own
    ],
)
def test_each_rule_drops_what_it_is_for(found, reason):
    assert rule_broken(found) == reason


def test_a_question_is_new_once_and_never_a_seed():
    sieve = Sieve(["What is the capital of France?"], near=0.7)
    sieve.add(draft())
    same = "a duplicate of a seed or of another row"
    assert sieve.reason(draft("what is the capital of FRANCE")) == same
    assert sieve.reason(draft("Name a river that flows through Vienna, please.")) == same
    assert sieve.reason(draft("Name a lake that lies near Zurich.")) == ""


def test_a_given_question_may_come_again_with_another_answer():
    sieve = Sieve([QUESTION], near=0.7)
    sieve.add(draft(is_new=False))
    assert sieve.reason(draft(is_new=False)).startswith("a duplicate")
    assert sieve.reason(draft(answer="It is the Danube, which is long.", is_new=False)) == ""


HELD = [
    HeldOutQuestion("test.jsonl:1", "How many legs does a common garden spider have in total?"),
    HeldOutQuestion("test.jsonl:2", "Which planet of the solar system has the shortest year?"),
    HeldOutQuestion(
        "test.jsonl:3", "A baker sells 12 loaves at 3 crowns and 5 cakes at 8 crowns. How much does she earn?"
    ),
]


@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("How many legs does a common garden spider have in total?", "test.jsonl:1"),
        ("HOW MANY LEGS DOES A COMMON GARDEN SPIDER HAVE, IN TOTAL", "test.jsonl:1"),
        ("Please tell me: how many legs does a common garden spider have in total?", "test.jsonl:1"),
        ("In total, a common garden spider has how many legs?", "test.jsonl:1"),
        ("A common garden spider: how many legs in total?", "test.jsonl:1"),
        ("In the solar system, which planet has the shortest year?", "test.jsonl:2"),
        ("Of the solar system's planets, which planet's year is the shortest?", "test.jsonl:2"),
        ("A baker sells 12 loaves at 3 crowns and 5 cakes at 8 crowns. What does she earn in all?", "test.jsonl:3"),
        ("How many wings does a common garden bee have?", ""),
        ("Which planet has the most moons?", ""),
        ("A farmer sells 12 eggs at 1 crown. How much is that?", ""),
        ("Name a planet.", ""),
    ],
)
def test_a_paraphrase_of_a_held_out_question_is_found_by_its_words(question, source):
    assert HeldOut(HELD, near=0.5).found(question) == source


def test_an_answer_that_holds_a_held_out_question_is_found():
    assert HeldOut(HELD, near=0.5).found("Ask me something.", f"Sure. {HELD[1].text} That is it.") == "test.jsonl:2"


def test_a_given_question_is_refused_only_where_it_is_the_same():
    held_out = HeldOut(HELD, near=0.5)
    assert held_out.found(HELD[0].text.upper(), is_new=False) == "test.jsonl:1"
    assert held_out.found("In total, a common garden spider has how many legs?", is_new=False) == ""


class Encoder:
    """Two meanings: of legs, and of all else."""

    max_length = 8

    def tokenizer(self, texts, truncation, max_length, verbose):
        return {"input_ids": [[len(text) % 7, int("leg" in text or "limb" in text)] for text in texts]}

    def embed_ids(self, rows):
        return [[1.0, 0.1] if legs else [0.1, 1.0] for _, legs in rows]


def test_a_paraphrase_in_other_words_is_found_by_an_encoder():
    question = "What number of limbs will you count on an arachnid from the lawn?"
    assert HeldOut(HELD[:1], near=0.5).found(question) == ""
    assert HeldOut(HELD[:1], near=0.5, encoder=Encoder()).found(question) == "test.jsonl:1"
    assert HeldOut(HELD[:1], near=0.5, encoder=Encoder()).found("Name a planet with rings.") == ""
    assert torch.is_tensor(HeldOut(HELD[:1], near=0.5, encoder=Encoder()).vectors)


def test_the_bundled_benchmarks_and_files_of_any_kind_are_held_out(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "Which sea lies north of Poland?", "answer": "The Baltic Sea"}\n')
    found = read_held_out([str(path)])
    assert found[0] == HeldOutQuestion(f"{path}:1", "Which sea lies north of Poland?")
    assert len(found) == 1 + 780 + 600 + 240
    assert read_held_out([str(path)], with_benchmarks=False) == found[:1]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("Task 4: Name a bird.", "Name a bird."),
        ("Sure! Here is a new task: Name a bird.", "Name a bird."),
        ("Here is another task:\n\nName a bird.\n\nIt is easy.", "Name a bird."),
        ('"Name a bird."', "Name a bird."),
        ("5. Name a bird.", "Name a bird."),
        ("<think>a task</think>\n**Name a bird.**", "Name a bird."),
        ('"A" and "B" are letters.', '"A" and "B" are letters.'),
        ("", ""),
    ],
)
def test_what_stands_around_a_task_is_taken_off(reply, text):
    assert first_part(reply) == text


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        ("When does it open?", "When does it open?"),
        ("Question: When does it open? Answer: at nine.", "When does it open?"),
        ("The ferry is old. When does it leave?\nWhere?", "When does it leave?"),
        ("1. When does it open?\n2. Where is it?", "When does it open?"),
        ("It opens at nine.", ""),
    ],
)
def test_the_first_question_of_a_reply_is_taken(reply, question):
    assert first_question(reply) == question


def test_an_answer_keeps_its_lines():
    assert cleaned("Answer: one\n\ntwo") == "one\n\ntwo"


def test_changed_prompts_have_another_version():
    import hashlib

    texts = [value for name, value in sorted(vars(prompts).items()) if name.isupper() and name != "VERSION"]
    assert (prompts.VERSION, hashlib.sha256(repr(texts).encode()).hexdigest()[:8]) == (1, "de4258e0")
