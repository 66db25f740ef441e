"""The model card and its results.

card_text.py     The tables of a model card, and what it is made for
eval_results.py  A benchmark run as the Hub reads it
model_card.py    The model card, from the template card.md.jinja
"""
