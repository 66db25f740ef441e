"""Held-out rows measured: answers, text, preferences and classes.

baselines.py         Held-out rows of several tasks
before_after.py      Held-out rows answered by the base, by the base with examples, and by the result
classification.py    A classifier on held-out rows: its measures, its results.json, its part of report.html
distillation.py      How near a student is to its teacher on held-out answers, before and after
labelled_answers.py  How likely held-out answers that are wanted or not are to a model, before and after
likelihoods.py       How likely held-out answers and held-out text are to a model, before and after it was trained
preferences.py       How a model ranks held-out pairs of answers, before and after it was trained on preferences
retrieval.py         How an encoder finds the passages of held-out questions, before it was trained on pairs and after
reward.py            How a reward model ranks held-out pairs, beside the length of answers and a coin
rewards.py           What greedy answers to held-out prompts are rewarded with, before and after they were trained on
writing.py           What a training run measured of its held-out rows, before and after
"""
