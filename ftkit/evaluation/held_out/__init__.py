"""Held-out rows measured: answers, preferences and classes.

answers.py         Held-out conversations answered by a model, with examples in its prompt, and without a model
classification.py  A classifier on held-out rows: measures, confusion, calibration, and its results.json
preferences.py     How a model ranks held-out pairs of answers, before and after it was trained on preferences
writing.py         What a training run measured of its held-out rows, before and after
"""
