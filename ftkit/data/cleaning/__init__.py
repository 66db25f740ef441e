"""Rows against rows: duplicates, overlap of splits, held-out rows, and a description of them all."""
