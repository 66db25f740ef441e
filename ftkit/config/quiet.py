"""Silences what libraries say about themselves, so that what a run says about your data can be seen."""

import os
import warnings

import datasets
from transformers.utils import logging


def quiet_libraries() -> None:
    """Hide progress bars of the libraries' own small steps, and a deprecation that TRL triggers inside transformers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # dataset workers fork after the tokenizer was used
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
