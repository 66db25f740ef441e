"""Held-out rows measured: preferences and classes.

classification.py          What a classifier's probabilities are worth
classification_results.py  What a classifier's run writes of its held-out rows
preferences.py             How a model ranks held-out pairs of answers, before and after it was trained on prefere
"""
