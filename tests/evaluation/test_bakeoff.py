"""A bake-off's standing, its recommendation and its page, from answers that are made up."""

import dataclasses
import re

import pytest
from benchmark_runs import write_run

from ftkit.config.errors import UserError
from ftkit.config.files import write_json
from ftkit.evaluation.bakeoff.contest import CONTESTANTS, Costs, LeftOut, read_entry
from ftkit.evaluation.bakeoff.page import write_bakeoff_page
from ftkit.evaluation.bakeoff.recommendation import CANNOT_TELL, NONE, TAKE, items_more, recommend
from ftkit.evaluation.bakeoff.standing import standing_of
from ftkit.evaluation.bakeoff.text import table_lines
from ftkit.metrics.paired_tests import detectable_share_difference, holm, mcnemar_p

COSTS = Costs(
    minutes=4.2, memory_gib=0.8, megabytes=19.6, prompt_tokens=50, answer_tokens=8, seconds=0.36,
    training_memory_gib=1.9, epochs=2,
)  # fmt: skip


def entries(folder, num, right, forgotten=()):
    """Contestants that ran on `num` rows. right: by name, how many of the first rows each answers rightly. forgotten:
    (name, how many of 400 probe questions it answers rightly)."""
    for name, count in right.items():
        tasks = {"answers": [1.0] * count + [0.0] * (num - count)}
        tasks |= (
            {"forgetting": [1.0] * dict(forgotten)[name] + [0.0] * (400 - dict(forgotten)[name])} if forgotten else {}
        )
        write_run(folder / name, tasks, metric="exact_match")
        write_json(folder / name / "costs.json", dataclasses.asdict(COSTS))
    return [read_entry(folder, CONTESTANTS[name]) for name in CONTESTANTS if name in right]


@pytest.mark.parametrize(
    ("num", "right", "outcome", "name", "sentence"),
    [
        (100, {"prompt": 10, "few_shot": 20, "lora": 90}, TAKE, "lora",
         r"take LoRA: exact match 90\.0 %, against 20\.0 % of few-shot, the next best \(70\.0 points, 95 % \d"),
        (100, {"prompt": 2, "retrieval": 80, "lora": 5, "raft": 78}, TAKE, "retrieval",
         r"take retrieval: .*against 5\.0 % of LoRA, the next best .*and simpler than retrieval \+ RAFT, not shown to be"),
        (400, {"prompt": 10, "few_shot": 300, "lora": 302}, TAKE, "few_shot",
         r"take few-shot: exact match 75\.0 %, as good as LoRA within 5 points \(\+0\.5 "),
        (20, {"prompt": 0, "few_shot": 8, "lora": 11}, CANNOT_TELL, "few_shot",
         r"cannot tell few-shot \(40\.0 %\) from LoRA \(55\.0 %\): about \d[\d,]* held-out rows more would; prompt alone is "
         r"worse; until then few-shot, which is simpler$"),
        (50, {"prompt": 0, "lora": 0}, NONE, "prompt", r"none: no contestant has exact match above 0; look at the answers"),
        (50, {"prompt": 5}, TAKE, "prompt", r"take prompt alone: exact match 10\.0 %, the only one that ran$"),
    ],
)  # fmt: skip
def test_the_best_is_taken_unless_a_simpler_one_is_as_good_or_can_not_be_told_from_it(
    tmp_path, num, right, outcome, name, sentence
):
    found = recommend(standing_of(entries(tmp_path, num, right)))
    assert (found.outcome, found.name) == (outcome, name)
    assert re.match(sentence, found.sentence), found.sentence


def test_so_many_rows_more_show_a_difference_that_matters_four_times_in_five(tmp_path):
    standing = standing_of(entries(tmp_path, 40, {"prompt": 12, "lora": 16}))
    (row,) = standing.pairs.values()
    num = 40 + items_more(row, 0.05)
    share_changed = (4 + 1) / (40 + 2)
    assert detectable_share_difference(num, share_changed) == pytest.approx(0.05, rel=0.1)


def test_p_values_are_corrected_for_all_pairs_so_that_the_best_may_be_looked_for(tmp_path):
    standing = standing_of(entries(tmp_path, 60, {"prompt": 10, "few_shot": 13, "soft_prompt": 20, "lora": 30}))
    gained = {("prompt", "few_shot"): 3, ("prompt", "soft_prompt"): 10, ("prompt", "lora"): 20,
              ("few_shot", "soft_prompt"): 7, ("few_shot", "lora"): 17, ("soft_prompt", "lora"): 10}  # fmt: skip
    expected = holm([mcnemar_p(count, 0) for count in gained.values()])
    assert {key: row.p_adjusted for key, row in standing.pairs.items()} == pytest.approx(
        dict(zip(gained, expected, strict=True))
    )


def test_what_training_made_a_contestant_forget_is_in_the_table_and_in_the_sentence(tmp_path):
    right = {"prompt": 10, "few_shot": 12, "lora": 90}
    standing = standing_of(entries(tmp_path, 100, right, {"prompt": 200, "few_shot": 200, "lora": 150}.items()))
    assert recommend(standing).sentence.endswith("; it forgot 12.5 points of the probe")
    line = next(line for line in table_lines(standing) if line.startswith("LoRA"))
    assert re.search(r"90\.0 % \(84\.0 to 95\.0\)  -12\.5 \(-1\d\.\d to -\d\.\d\) worse", line)


def test_who_did_not_run_is_listed_with_the_reason_and_costs_are_in_money_where_the_machine_has_a_price(tmp_path):
    out = LeftOut(CONTESTANTS["qlora"], "bitsandbytes can't run here")
    standing = standing_of([*entries(tmp_path, 50, {"prompt": 5, "lora": 40}), out])
    text = "\n".join(table_lines(standing, price_per_hour=2.0))
    assert "QLoRA did not run: bitsandbytes can't run here" in text
    assert re.search(
        r"^LoRA .* 4\.2 +1\.90 +0\.80 +19\.6 +50 +8 +0\.2$", text, flags=re.MULTILINE
    )  # 1000 * 0.36 s * 2 / 3600
    assert re.search(r"^LoRA .* 6\.0 min$", "\n".join(table_lines(standing)), flags=re.MULTILINE)


def test_the_page_shows_sentence_scores_differences_costs_and_answers(tmp_path):
    right = {"prompt": 10, "few_shot": 20, "lora": 90}
    standing = standing_of(entries(tmp_path, 100, right, {"prompt": 200, "few_shot": 200, "lora": 150}.items()))
    settings = {"rows": "data/rows.csv", "model": "base", "docs": ["<script>"]}
    path = write_bakeoff_page(tmp_path / "report.html", standing, recommend(standing), settings)
    page = path.read_text()
    assert "Bake-off on rows.csv" in page and "take LoRA: exact match 90.0 %" in page
    for text in ("What each changes, beside prompt alone", "Forgetting: the probe", "MB to ship", "Pair by pair"):
        assert text in page
    assert page.count('<circle class="dot') == 6 and "<script>" not in page and "question 10" in page


def test_costs_that_are_damaged_are_one_line(tmp_path):
    entries(tmp_path, 10, {"prompt": 5})
    (tmp_path / "prompt/costs.json").write_text('{"minutes": "many"}')
    with pytest.raises(UserError, match="costs.json: not as a bake-off writes it .*; delete it"):
        read_entry(tmp_path, CONTESTANTS["prompt"])
