"""The chart of speed is drawn from RESULTS.md as it stands, and not from half of it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from speed_chart import RESULTS, bars


def test_the_chart_shows_what_results_md_says_of_ftkit_and_its_rivals():
    found = bars(RESULTS.read_text(encoding="utf-8"))
    assert [bar.name for bar in found] == ["ftkit sft", "trl sft, tuned", "litgpt finetune_lora", "trl sft, defaults"]
    assert all(bar.low <= bar.median <= bar.high for bar in found)
    assert [bool(bar.ratio) for bar in found] == [False, True, True, True]


def test_results_that_lack_a_command_are_no_chart():
    with pytest.raises(ValueError, match="section C4 lacks a command"):
        bars("<!-- C4 -->\n| ftkit sft | 380 (370 to 438) |  |\n<!-- end of C4 -->")
