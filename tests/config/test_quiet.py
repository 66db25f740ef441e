"""What quiet_libraries silences, and that it leaves a person's own choice alone."""

import os
import warnings

import datasets
import pytest
from transformers.utils import logging

from ftkit.config.quiet import quiet_libraries


@pytest.fixture(autouse=True)
def as_it_was():
    """The libraries' own settings, afterwards."""
    shown = datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    yield
    (datasets.disable_progress_bars if shown[0] else datasets.enable_progress_bars)()
    (logging.enable_progress_bar if shown[1] else logging.disable_progress_bar)()


def test_bars_of_the_libraries_are_hidden():
    datasets.enable_progress_bars()
    logging.enable_progress_bar()
    quiet_libraries()
    assert datasets.are_progress_bars_disabled() and not logging.is_progress_bar_enabled()


def test_one_warning_is_hidden_and_others_are_not():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quiet_libraries()
        warnings.warn("is_gradient_checkpointing is deprecated", FutureWarning, stacklevel=1)
        warnings.warn("loss is NaN", FutureWarning, stacklevel=1)
    assert [str(one.message) for one in seen] == ["loss is NaN"]


@pytest.mark.parametrize(("before", "after"), [(None, "false"), ("true", "true")])
def test_a_choice_about_tokenizers_is_kept(before, after, monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    if before:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", before)
    quiet_libraries()
    assert os.environ["TOKENIZERS_PARALLELISM"] == after
