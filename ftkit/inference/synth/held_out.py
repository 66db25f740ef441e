"""Questions of benchmarks and held-out rows, which no synthetic row may repeat or paraphrase.

    held_out = HeldOut(read_held_out(["test.jsonl"]), near=0.5)
    held_out.found("How many legs has a spider?")      # "test.jsonl:7", or ""

Three measures: a run of 13 words in common (or a shorter question as a whole), the share of three-word runs in common,
and the share of telling words in common. With a sentence encoder also the cosine of the embeddings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftkit.config.assets import list_assets
from ftkit.data.cleaning.near_duplicates import NearIndex, jaccard, words
from ftkit.data.cleaning.overlap import question_of, runs
from ftkit.data.reading.loading import find_splits, split_named
from ftkit.data.reading.problems import Problems
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.kinds import select_kind

BENCHMARKS = ("instructions", "multiple_choice", "reasoning")  # bundled; their test rows are always looked at
RUN_WORDS = 13  # Brown et al. 2020, arXiv:2005.14165, appendix C
MIN_RUN_WORDS = 5  # of a whole question; shorter ones are in many texts
TELLING = 0.75  # share of telling words in common from which a question is a paraphrase
MIN_TELLING = 4  # words
SAME = 0.8  # share of three-word runs in common from which a given question is the held-out one
COSINE = 0.85
COMMON = frozenset(
    "a an the of to in on at for by with from and or but if than then that this these those it its is are was were be "
    "been do does did has have had can could will would shall should may might must not no what which who whom whose "
    "when where why how many much some any each all i you he she they we me him her them us my your his their our "
    "there here as about into over under after before between out up down so such only also please tell give name "
    "write find s t".split()
)


class HeldOutQuestion(NamedTuple):
    """A question that is held out. source: "file:line"."""

    source: str
    text: str


def read_held_out(names: Sequence[str], *, with_benchmarks: bool = True) -> list[HeldOutQuestion]:
    """The questions of the test split of each name, or of a file's rows, of any kind; those of the bundled benchmarks
    too. Raises UserError for a name that resolves to nothing, and for mistakes in rows."""
    bundled = [name for name in BENCHMARKS if with_benchmarks and name in list_assets("datasets") and name not in names]
    return [one for name in (*names, *bundled) for one in questions_of(name)]


def questions_of(name: str) -> list[HeldOutQuestion]:
    """The questions that a name holds out."""
    source, splits = find_splits(name)
    chosen = split_named("train" if Path(name).expanduser().is_file() else "test", splits, source)
    problems = Problems()
    rows = list(RowChecker(chosen.label, select_kind(), report=problems.add).rows(chosen.open(problems.add)))
    problems.raise_any()
    return [HeldOutQuestion(row["source"], question_of(row)) for row in rows]


class HeldOut:
    """Questions to be looked for. near: share of three-word runs in common from which a question is a paraphrase.

    encoder: a `SentenceModel`, or None.
    """

    def __init__(self, questions: Sequence[HeldOutQuestion], near: float, encoder: Any = None):
        self.questions, self.encoder = questions, encoder
        self.index = NearIndex(near)
        self.runs: dict[int, dict[tuple[str, ...], int]] = {}
        self.telling: list[frozenset[str]] = []
        self.having: dict[str, list[int]] = {}  # telling word -> numbers of the questions that have it
        for number, one in enumerate(questions):
            self.index.add(one.text)
            self.add_runs(number, words(one.text))
            self.telling.append(telling_words(one.text))
            for word in self.telling[-1]:
                self.having.setdefault(word, []).append(number)
        self.vectors = self.embedded([one.text for one in questions]) if encoder and questions else None

    def add_runs(self, number: int, text: list[str]) -> None:
        """Remember the runs of words of a question."""
        for run in runs(text, RUN_WORDS) if len(text) >= MIN_RUN_WORDS else ():
            self.runs.setdefault(len(run), {}).setdefault(run, number)

    def found(self, question: str, answer: str = "", *, is_new: bool = True) -> str:
        """Where the held-out question stands that a question, or an answer, repeats or paraphrases; "" for none.

        is_new: the question was made here; one that a person gave is only refused where it is the same.
        """
        near = next(iter(self.index.near(question)), None)
        if not is_new:
            return self.questions[near[0]].source if near and near[1] >= SAME else ""
        numbers = [self.shared_run(question), self.shared_run(answer), near[0] if near else None]
        numbers += [self.same_words(question)]
        number = next((number for number in numbers if number is not None), None)
        number = self.same_meaning(question) if number is None else number
        return "" if number is None else self.questions[number].source

    def shared_run(self, text: str) -> int | None:
        """The held-out question that shares a long run of words with a text."""
        said = words(text)
        for length, known in self.runs.items():
            for run in runs(said, length) if len(said) >= length else ():
                if run in known:
                    return known[run]
        return None

    def same_words(self, text: str) -> int | None:
        """The held-out question with the same telling words, in whatever order."""
        own = telling_words(text)
        if len(own) < MIN_TELLING:
            return None
        numbers = sorted({number for word in own for number in self.having.get(word, ())})
        return next((number for number in numbers if jaccard(set(own), set(self.telling[number])) >= TELLING), None)

    def same_meaning(self, text: str) -> int | None:
        """The held-out question whose embedding is nearest, where it is near."""
        if self.vectors is None:
            return None
        cosines = self.vectors @ self.embedded([text])[0]
        place = int(cosines.argmax())
        return place if float(cosines[place]) >= COSINE else None

    def embedded(self, texts: Sequence[str]):
        """The embeddings, (B, D), each of length 1; a text that is too long is cut."""
        import torch

        ids = self.encoder.tokenizer(list(texts), truncation=True, max_length=self.encoder.max_length, verbose=False)
        return torch.nn.functional.normalize(torch.tensor(self.encoder.embed_ids(ids["input_ids"])), dim=-1)


def telling_words(text: str) -> frozenset[str]:
    """The words of a text that say what it is about."""
    return frozenset(words(text)) - COMMON
