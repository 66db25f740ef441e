"""The model card and its results.

card_text.py     The texts and tables of a model card
eval_results.py  A benchmark run as the Hub reads it
model_card.py    The model card
"""
