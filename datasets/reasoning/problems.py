"""What a word problem is, how its numbers, people and things are drawn, and how its steps are proven."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import wordlists
from rows import rank, ranked

TEST_PERCENT = 25  # of the people and things
CONSTANTS = {
    "2",
    "3",
    "4",
    "7",
    "60",
    "100",
    "1000",
}  # numbers that a step may bring in: twice, a week, an hour, a percent
NUMBER = r"\d+"
EQUATION = re.compile(rf"({NUMBER}(?: [+\-×÷] {NUMBER})+) = ({NUMBER})(?![\d.,]*\d)")


@dataclass(frozen=True)
class Person:
    name: str
    she: str  # she or he
    her: str  # her or his


@dataclass(frozen=True)
class Problem:
    """steps: one sentence each, with one equation whose operands are in the question or came out before.

    result: the answer by a formula of its own, not taken from the steps. numbers: what was drawn.
    """

    question: str
    steps: tuple[str, ...]
    result: int
    numbers: tuple[int, ...]

    @property
    def answer(self) -> str:
        """The steps, a line each, and the final answer as in GSM8K."""
        return "\n".join((*self.steps, f"#### {self.result}"))


class Draw:
    """Draws that depend on the salt alone. side: "train" or "test"; people and things of one are not in the other."""

    def __init__(self, side: str, *salt):
        self.side, self.salt, self.count = side, salt, 0
        self.taken = set()
        self.numbers = []

    def _rank(self) -> int:
        self.count += 1
        return rank(*self.salt, self.count)

    def number(self, low: int, high: int, step: int = 1) -> int:
        """A multiple of `step` from low to high, both included."""
        first = -(-low // step) * step
        number = first + step * (self._rank() % ((high - first) // step + 1))
        self.numbers.append(number)
        return number

    def wording(self, *texts: str) -> str:
        return texts[self._rank() % len(texts)]

    def word(self, kind: str) -> str:
        """A word of a list in wordlists.py that this problem has not used and that belongs to the side."""
        words = [word for word in wordlists.LISTS[kind] if side_of(word) == self.side and word not in self.taken]
        word = words[self._rank() % len(words)]
        self.taken.add(word)
        return word

    def person(self) -> Person:
        name = self.word("women" if self._rank() % 2 else "men")
        return Person(name, "she", "her") if name in wordlists.LISTS["women"] else Person(name, "he", "his")


@cache
def side_of(word: str) -> str:
    """Test for every fourth word of each list, in hashed order."""
    for words in wordlists.LISTS.values():
        if word in words:
            return "test" if ranked(words, "side").index(word) % (100 // TEST_PERCENT) == 0 else "train"
    raise KeyError(word)


def evaluate(expression: str) -> Fraction:
    """The value of numbers joined by + - × ÷, the last two first."""
    tokens = expression.split()
    terms, sign = [], 1
    value = Fraction(tokens[0])
    for operator, operand in zip(tokens[1::2], tokens[2::2], strict=True):
        if operator == "×":
            value *= int(operand)
        elif operator == "÷":
            value /= int(operand)
        else:
            terms.append(sign * value)
            sign, value = (1 if operator == "+" else -1), Fraction(operand)
    return sum(terms) + sign * value


def check(problem: Problem) -> None:
    """Raise ValueError unless every step holds, uses known numbers only, and the last one gives the result."""
    known = set(re.findall(NUMBER, problem.question)) | CONSTANTS
    last = None
    for step in problem.steps:
        found = EQUATION.findall(step)
        if len(found) != 1 or step.count("=") != 1:
            raise ValueError(f"one equation in each step: {step}")
        expression, value = found[0]
        if evaluate(expression) != int(value):
            raise ValueError(f"{expression} is {evaluate(expression)}: {step}")
        unknown = set(re.findall(NUMBER, expression)) - known
        if unknown:
            raise ValueError(f"{', '.join(unknown)} came from nowhere: {step}")
        known.add(value)
        last = int(value)
    if last != problem.result or problem.result < 1:
        raise ValueError(f"the steps give {last}, the formula {problem.result}: {problem.question}")
