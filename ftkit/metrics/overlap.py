"""How much of a reference text an answer repeats: BLEU and chrF by sacrebleu, ROUGE by rouge_score.

Rouge().compute(predictions=["A cat sat."], references=["The cat sat."])
"""

from functools import lru_cache

import datasets

from ftkit.metrics.definition import TEXTS, TextMetric, check_items
from ftkit.metrics.text_match import mean

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
SEVERAL = [TEXTS, {**TEXTS, "references": datasets.Sequence(datasets.Value("string"))}]


class SacrebleuMetric(TextMetric):
    """A metric of sacrebleu over a corpus, 0 to 100. references: one text, or several, an item."""

    kind: str  # the name of sacrebleu's class
    columns = SEVERAL

    def compute(self, *, predictions=None, references=None, **settings):
        """The score; see `evaluate.Metric.compute`."""
        if predictions is not None and references is not None:
            check_items(predictions, references)  # of no items, evaluate can't tell which kind of references it has
        return super().compute(predictions=predictions, references=references, **settings)

    def score(self, predictions, references, **settings):
        import sacrebleu.metrics

        metric = getattr(sacrebleu.metrics, self.kind)(**settings)
        return {self.kind.lower(): metric.corpus_score(predictions, reference_streams(references)).score}


class Bleu(SacrebleuMetric):
    """Corpus BLEU as sacrebleu computes it; takes the settings of sacrebleu.metrics.BLEU."""

    kind = "BLEU"
    about = "Corpus BLEU of sacrebleu, 0 to 100."


class ChrF(SacrebleuMetric):
    """Corpus chrF as sacrebleu computes it; word_order=2 makes it chrF++."""

    kind = "CHRF"
    about = "Corpus chrF of sacrebleu, 0 to 100."


class Rouge(TextMetric):
    """Mean F-measures of ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum, 0 to 1, as rouge_score computes them.

    rouge_score's words are of a-z and 0-9: two equal texts in another script score 0.0; take chrF for those.
    """

    about = "Mean F-measures of ROUGE-1, -2, -L and -Lsum, 0 to 1."

    def score(self, predictions, references, use_stemmer=False):
        scored = [rouge(*pair, use_stemmer=use_stemmer) for pair in zip(predictions, references, strict=True)]
        return {name: mean(scores[name] for scores in scored) for name in ROUGE_TYPES}


def reference_streams(references: list) -> list[list[str]]:
    """References as sacrebleu takes them: one list for each rank of reference, each with one text an item."""
    rows = [[row] if isinstance(row, str) else list(row) for row in references]
    if any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("some items have more references than others; give each the same number")
    return [list(stream) for stream in zip(*rows, strict=True)]


@lru_cache(maxsize=2)
def rouge_scorer(use_stemmer: bool):
    """The scorer of rouge_score; its stemmer takes a while to build."""
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE_TYPES), use_stemmer=use_stemmer)


def rouge(prediction: str, reference: str, *, use_stemmer: bool = False) -> dict[str, float]:
    """F-measures of one answer by ROUGE type."""
    scores = rouge_scorer(use_stemmer).score(reference, prediction)
    return {name: scores[name].fmeasure for name in ROUGE_TYPES}


def sentence_bleu(prediction: str, reference: str) -> float:
    """BLEU of one answer, 0 to 100, smoothed as sacrebleu does by default. A corpus has no mean of these."""
    from sacrebleu import sentence_bleu

    return sentence_bleu(prediction, [reference]).score


def sentence_chrf(prediction: str, reference: str) -> float:
    """chrF of one answer, 0 to 100."""
    from sacrebleu import sentence_chrf

    return sentence_chrf(prediction, [reference]).score
