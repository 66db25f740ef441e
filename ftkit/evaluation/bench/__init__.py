"""Benchmarks: task files, items, the units of work, scores, results.json and its report."""
