"""Answers of two models to four questions, and a ballot of them."""

from pathlib import Path

from ftkit.evaluation.judge.ballot import Ballot, pairs_of
from ftkit.inference.judging import Answered

QUESTIONS = ["Name a bird.", "What is 2 + 2?", "Write the plural of: mouse", "Say <b>hi</b>."]
ANSWERS = {
    "mine": ["Crow.", "4", "mice", "<script>document.title = 'forged'</script>hi"],
    "base": ["A bird is an animal.", "5", "mouses", ""],
}


def answers(**changes) -> dict:
    """By model, as `pairs_of` takes them."""
    return {
        model: [Answered(question, text) for question, text in zip(QUESTIONS, texts, strict=True)]
        for model, texts in {**ANSWERS, **changes}.items()
    }


def ballot(path: Path, voter: str = "ann", seed: int = 0) -> Ballot:
    """One over all pairs."""
    return Ballot(pairs_of(answers(), seed), path, voter)
