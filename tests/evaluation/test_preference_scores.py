"""Scores of pairs equal log-probabilities taken from full logits, and their summary is worked out by hand."""

import re
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ftkit.commands.compare import main
from ftkit.config.errors import UserError
from ftkit.evaluation.held_out.preferences import PairScore, results_lines, score_pairs, write_preferences
from ftkit.evaluation.results import read_items, read_results
from ftkit.evaluation.verdict.contamination import leak_warnings


def test_scores_are_the_summed_log_probabilities_of_each_answer():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    prompt, answers = [5, 6, 7], ([8, 9, 1], [10, 1])
    sequences = [{"input_ids": prompt + answer, "labels": [-100] * 3 + answer} for answer in answers]
    (score,) = score_pairs(model, sequences, pad_token_id=0)
    for total, number, answer in zip(score[:2], score[2:], answers, strict=True):
        log_probs = model(torch.tensor([prompt + answer])).logits.log_softmax(-1)[0, 2:-1]
        expected = log_probs.gather(-1, torch.tensor(answer)[:, None]).sum().item()
        assert total == pytest.approx(expected, rel=1e-5) and number == len(answer)


def runs_of(tmp_path, before, after, lengths=({}, {})):
    """What a run writes of pairs about their numbers. lengths: of some answers before and after."""
    model = SimpleNamespace(model_name_or_path="org/base", use_peft=True, adapter=None)
    run = SimpleNamespace(
        settings=SimpleNamespace(model=model, data=SimpleNamespace(dataset_name="pairs")),
        decided=SimpleNamespace(dtype="float32"), output_dir=str(tmp_path / "out"), config=SimpleNamespace(seed=3),
    )  # fmt: skip
    rows = [
        {"prompt": [{"role": "user", "content": f"text {number}"}], "chosen": "text 7", "rejected": "text 8"}
        for number in range(len(before))
    ]
    items = [
        write_preferences(run, rows, scores, tokens, is_trained=is_trained)
        for scores, tokens, is_trained in zip((before, after), lengths, (False, True), strict=True)
    ]
    line = "\n".join(results_lines(*items))
    return line, *(read_results(tmp_path / "out" / name) for name in ("before/results.json", "results.json"))


def test_pairs_are_ranked_per_token_before_and_after_and_by_the_gain_over_the_reference(tmp_path):
    before = [PairScore(-4.0, -1.0, 2, 1), PairScore(-1.0, -4.0, 1, 2)]  # per token: -2 < -1, then -1 > -2
    after = [PairScore(-1.0, -3.0, 2, 1), PairScore(-3.0, -5.0, 1, 2)]  # -0.5 > -3, then -3 < -2.5
    line, old, new = runs_of(tmp_path, before, after)
    old, new = old.tasks["preferences"], new.tasks["preferences"]
    assert [task.scores["pair_accuracy"].value for task in (old, new)] == [0.5, 0.5]
    assert new.scores["reward_accuracy"].value == 0.5  # gains: 3 > -2, then -2 < -1
    assert old.scores["chosen_logps"].value == -2.5 and new.scores["rejected_logps"].value == -4.0
    assert new.scores["pair_accuracy"].is_share and not new.scores["rejected_logps"].higher_is_better
    assert "(2): 50.0% before, 50.0% after (change +0.0%" in line
    items = read_items(tmp_path / "out/results.json", new)
    assert [(item.prompt, item.prediction, item.reference) for item in items] == [
        ("text 0", "text 7", "text 7"), ("text 1", "text 8", "text 7")
    ]  # fmt: skip


def test_an_unchanged_share_has_an_interval_of_some_width(tmp_path):
    line, *_ = runs_of(tmp_path, *[[PairScore(-1.0, -2.0, 1, 1)] * 20] * 2)
    assert "change +0.0%, 95 % interval -16.1% to +16.1%" in line  # z^2 / (n + z^2) = 3.8416 / 23.8416


def test_ftkit_compare_reads_a_run_folder_and_counts_gained_and_lost_pairs(tmp_path, capsys):
    right, wrong = PairScore(-1.0, -2.0, 1, 1), PairScore(-2.0, -1.0, 1, 1)
    runs_of(tmp_path, [wrong] * 26 + [right] * 4, [right] * 26 + [wrong] + [right] * 3)
    main([str(tmp_path / "out"), "--num_examples", "1"])
    said = capsys.readouterr().out
    assert said.startswith("better: better on preferences") and "26 items gained, 1 lost" in said
    assert "wanted: text 7" in said and "before (0): text 8" in said
    (tmp_path / "out/before/results.json").unlink()
    with pytest.raises(UserError, match="results.json: nothing was measured before it; give BEFORE and AFTER"):
        main([str(tmp_path / "out")])


def test_a_held_out_question_that_was_trained_on_is_found(tmp_path):
    _, _, new = runs_of(tmp_path, *[[PairScore(-1.0, -2.0, 1, 1)] * 3] * 2)
    items = {"preferences": read_items(tmp_path / "out/results.json", new.tasks["preferences"])}
    asked = {"prompt": [{"role": "user", "content": "text 2"}], "chosen": "a", "rejected": "b", "source": "rows:9"}
    (warning,) = leak_warnings([asked], items)
    assert warning.startswith("warning: preferences: 1 of 3 items are asked in the training data, the first at rows:9")


def test_the_length_of_answers_is_reported_and_decides_nothing(tmp_path, capsys):
    scores = [PairScore(-1.0, -2.0, 1, 1)] * 12
    before, after = {0: 10, 4: 20, 8: 30}, {0: 20, 4: 30, 8: 40}
    line, old, new = runs_of(tmp_path, scores, scores, (before, after))
    assert "length of 3 answers, tokens: 20.0 before, 30.0 after (change +10.0, 95 % interval" in line
    assert new.tasks["preferences"].main_metric == "pair_accuracy"
    main([str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert re.search(r"preferences  answer length, tokens  +3 +20 +30 +\+10", said)
    assert "note: answer length, tokens: neither more nor less is better" in said
