"""Rows against rows: duplicates, overlap of splits, held-out rows, and a description of them all.

describing.py       What rows look like
near_duplicates.py  Finds texts that are nearly the same
overlap.py          Finds rows of a test set among the training rows
splitting.py        Splits rows so that what belongs together stays on one side
"""
