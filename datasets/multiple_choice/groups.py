"""Questions that share their four choices: a group of four, in which each choice is the answer of one question."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rows import rank, ranked

NUM_CHOICES = 4
Keep = Callable[[str], bool]  # whether a word, a name or a number belongs to the split that is being built


@dataclass
class Question:
    """accepted: every answer that the sources would let pass. words: what it asks about, to compare with other rows."""

    text: str
    answer: str
    accepted: set[str] = field(default_factory=set)
    words: tuple[str, ...] = ()

    def __post_init__(self):
        self.accepted = self.accepted | {self.answer}


Group = list[Question]  # four, with four different answers


def is_sound(group: Group) -> bool:
    """Whether each question has exactly one right choice, its own answer, and no question is asked twice."""
    choices = {question.answer for question in group}
    return (
        len(group) == len(choices) == len({question.text for question in group}) == NUM_CHOICES
        and len({choice.casefold() for choice in choices}) == NUM_CHOICES
        and all(question.accepted & choices == {question.answer} for question in group)
    )


def chunks(questions: list[Question]) -> Iterator[Group]:
    """Neighbours four by four; those that do not fit together are left out."""
    for start in range(0, len(questions) - NUM_CHOICES + 1, NUM_CHOICES):
        if is_sound(questions[start : start + NUM_CHOICES]):
            yield questions[start : start + NUM_CHOICES]


def gather(questions: list[Question], fits: Callable[[Question, Question], bool]) -> Iterator[Group]:
    """Groups of questions of which every two fit together, each used once, the first that fit taken."""
    left = list(questions)
    while left:
        group, rest = [left[0]], []
        for question in left[1:]:
            if len(group) < NUM_CHOICES and all(fits(question, other) for other in group):
                group.append(question)
            else:
                rest.append(question)
        left = rest
        if is_sound(group):
            yield group


def to_rows(group: Group, subject: str) -> list[dict]:
    """The group's rows: the same choices in the same order in each, so that the answers are 0, 1, 2 and 3 once each."""
    choices = ranked((question.answer for question in group), "choices")
    return [
        {"question": question.text, "choices": choices, "answer": choices.index(question.answer), "subject": subject}
        for question in sorted(group, key=lambda question: rank("row", question.text))
    ]
