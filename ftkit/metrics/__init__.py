"""evaluate.Metric classes, intervals, paired tests and ranking: a new metric goes here.

classification.py  Metrics of a classifier as `evaluate.Metric`s that need no network
constraints.py     Whether an answer keeps to instructions that a program can verify
definition.py      What every metric says about itself, and the input that none of them accepts
faithfulness.py    Whether an answer says only what its sources say
intervals.py       How sure a score is
json_schema.py     Whether a JSON value fits a schema
likelihood.py      What log-likelihoods say
overlap.py         How much of a reference text an answer repeats
paired_tests.py    Did paired scores change, and could so few items have shown it
quoting.py         Quotations of numbered sources held against them
ranking.py         Who answers best, from votes on pairs of answers
refusal.py         Whether an answer refuses, seen by what refusals say
retrieval.py       Whether a search finds what it should, and finds it early
rewards.py         Rewards of one answer
samples.py         What several samples of an answer are worth
similarity.py      How near an answer is to its reference in meaning
text_match.py      Whether an answer is the right one
tool_calls.py      How far the calls of tools that an answer makes are those that were wanted
"""
