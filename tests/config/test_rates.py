"""The learning rates that --help names are those that are decided."""

import dataclasses
import re

import pytest

from ftkit.config.settings.rates import ADAPTER, ALL_WEIGHTS, HEAD
from ftkit.runs.recipe import found
from ftkit.runs.recipes import TRAINERS, load_recipe

TEXT = re.compile(r"Default: (\S+), with PEFT ([^,;]+)(?:, head alone ([^;]+))?; below 50 M parameters (\S+), (\S+)\.$")
OTHERWISE = {"pretrain", "distill"}  # by the size of a new model; as sft's


@pytest.mark.parametrize("command", sorted(TRAINERS.keys() - OTHERWISE))
def test_the_rates_of_the_help_are_those_of_the_table(command):
    training = found(load_recipe(command).settings)[-1]
    (setting,) = (item for item in dataclasses.fields(training) if item.name == "learning_rate")
    usual, adapter, head, small, small_adapter = TEXT.search(setting.metadata["help"]).groups()
    rates = training.learning_rates
    assert [float(small), float(usual)] == [rate for _, rate in rates[ALL_WEIGHTS]]
    assert [float(small_adapter), float(adapter)] == [rate for _, rate in rates[ADAPTER]]
    assert head is None or [float(head)] == [rate for _, rate in rates[HEAD]]
