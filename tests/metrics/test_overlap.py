"""BLEU, chrF and ROUGE are the libraries' own numbers, in one process and in two."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from ftkit.metrics.constraints import InstructionConstraints
from ftkit.metrics.definition import SETTINGS
from ftkit.metrics.overlap import ROUGE_TYPES, Bleu, ChrF, Rouge, sentence_bleu, sentence_chrf
from ftkit.metrics.refusal import Refusal
from ftkit.metrics.text_match import ExactMatch, TokenF1

ROOT = Path(__file__).resolve().parents[2]
PREDICTIONS = [
    "the cat sat on the mat", "and a dog\nthere is a bird in the garden", "hello", "", "It was 3.5 o'clock, he said.",
]  # fmt: skip
REFERENCES = [
    "the cat is sitting on the mat", "a bird is in the garden\nwith a dog", "hello world", "silence",
    "At 3.5 o'clock he said so.",
]  # fmt: skip
TWO_EACH = [[one, one.upper()] for one in REFERENCES]


def test_bleu_and_chrf_are_sacrebleus():
    columns = {"predictions": PREDICTIONS, "references": REFERENCES}
    assert Bleu().compute(**columns)["bleu"] == sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score > 0
    assert ChrF().compute(**columns)["chrf"] == sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score > 0
    plus = sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES], word_order=2).score
    assert ChrF().compute(**columns, word_order=2)["chrf"] == plus
    lower = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES], lowercase=True, tokenize="char").score
    assert Bleu().compute(**columns, lowercase=True, tokenize="char")["bleu"] == lower


def test_several_references_are_sacrebleus_streams():
    streams = [[row[rank] for row in TWO_EACH] for rank in range(2)]
    found = Bleu().compute(predictions=PREDICTIONS, references=TWO_EACH)["bleu"]
    assert found == sacrebleu.corpus_bleu(PREDICTIONS, streams).score
    with pytest.raises(ValueError, match="some items have more references than others"):
        ChrF().compute(predictions=["a", "b"], references=[["a"], ["b", "c"]])


def test_scores_of_one_answer_are_sacrebleus():
    assert (
        sentence_bleu(PREDICTIONS[0], REFERENCES[0]) == sacrebleu.sentence_bleu(PREDICTIONS[0], [REFERENCES[0]]).score
    )
    assert (
        sentence_chrf(PREDICTIONS[0], REFERENCES[0]) == sacrebleu.sentence_chrf(PREDICTIONS[0], [REFERENCES[0]]).score
    )


@pytest.mark.parametrize("use_stemmer", [False, True])
def test_rouge_is_rouge_scores(use_stemmer):
    scorer = RougeScorer(list(ROUGE_TYPES), use_stemmer=use_stemmer)
    scored = [scorer.score(one, other) for one, other in zip(REFERENCES, PREDICTIONS, strict=True)]
    expected = {name: sum(scores[name].fmeasure for scores in scored) / len(scored) for name in ROUGE_TYPES}
    assert Rouge().compute(predictions=PREDICTIONS, references=REFERENCES, use_stemmer=use_stemmer) == expected
    assert expected["rougeL"] != expected["rougeLsum"]  # the second item has two lines


@pytest.mark.parametrize("metric", [Bleu, ChrF, Rouge])
def test_no_items_are_an_error_and_not_nan(metric):
    with pytest.raises(ValueError, match="no items to score"):
        metric().compute(predictions=[], references=[])


WORKER = """
import json, sys
from ftkit.metrics.overlap import Bleu, ChrF, Rouge
from ftkit.metrics.text_match import TokenF1
rank, cache, columns = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
for kind in (Bleu, ChrF, Rouge, TokenF1):
    metric = kind(num_process=2, process_id=rank, experiment_id=kind.__name__, cache_dir=cache)
    found = metric.compute(**{name: values[rank::2] for name, values in columns.items()})
    if rank == 0:
        print(json.dumps(found))
"""


@pytest.mark.processes
def test_two_processes_give_what_one_gives(tmp_path):
    columns = {"predictions": PREDICTIONS, "references": REFERENCES}
    command = [sys.executable, "-c", WORKER]
    workers = [
        subprocess.Popen([*command, str(rank), str(tmp_path), json.dumps(columns)], cwd=ROOT, stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    printed = [worker.communicate(timeout=120)[0] for worker in workers]
    found = [json.loads(line) for line in printed[0].splitlines()]
    for scores, metric in zip(found, (Bleu, ChrF, Rouge, TokenF1), strict=True):
        assert scores == pytest.approx(metric().compute(**columns), abs=1e-12)


def test_they_combine():
    found = evaluate.combine([Bleu(), ChrF()]).compute(predictions=PREDICTIONS, references=REFERENCES)
    assert set(found) == {"bleu", "chrf"}


def test_combined_each_takes_its_own_settings_and_an_unknown_one_is_refused():
    columns = {"predictions": ["the cats sat", "a dog runs"], "references": ["the cat sat", "A dog runs"]}
    settings = {"use_stemmer": True, "word_order": 2, "ignore_case": True}
    found = evaluate.combine([Bleu(), ChrF(), Rouge(), ExactMatch()]).compute(**columns, **settings)
    assert found["bleu"] == Bleu().compute(**columns)["bleu"]
    assert found["chrf"] == ChrF().compute(**columns, word_order=2)["chrf"]
    assert (
        found["rougeL"]
        == Rouge().compute(**columns, use_stemmer=True)["rougeL"]
        != Rouge().compute(**columns)["rougeL"]
    )
    for metric in (Bleu, Rouge, ExactMatch):
        with pytest.raises(ValueError, match='unknown setting "use_stemer"; did you mean "use_stemmer"'):
            metric().compute(**columns, use_stemer=True)


def test_the_settings_of_sacrebleus_metrics_are_all_taken():
    for name, kind in (("Bleu", sacrebleu.metrics.BLEU), ("ChrF", sacrebleu.metrics.CHRF)):
        assert set(SETTINGS[name]) == set(inspect.signature(kind).parameters) - {"references"}


@pytest.mark.parametrize("metric", [Bleu, Rouge, ExactMatch, InstructionConstraints, Refusal])
def test_a_text_in_place_of_a_list_is_refused(metric):
    with pytest.raises(ValueError, match="predictions is one text, 'abc'; give a list, with one per item"):
        metric().compute(predictions="abc", references="abc")
    with pytest.raises(ValueError, match="references is one text"):
        metric().add_batch(predictions=["a"], references="a")
