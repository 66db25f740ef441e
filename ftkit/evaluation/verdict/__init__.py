"""Runs compared: pairing, the verdict, its text and page, and questions found in training rows.

contamination.py  Which items of a benchmark were in the training data
page.py           A verdict as one HTML page that needs no network
pairing.py        Two benchmark runs as pairs of answers to the same items
power.py          What a number of items can show, in plain words
text.py           A verdict as text for the terminal, and as Markdown
verdict.py        Did it get better, and what did it forget
"""
