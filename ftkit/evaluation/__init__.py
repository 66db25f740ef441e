"""Whether it got better: answers, scores, intervals, and the report of a run.

bakeoff/    Ways to have a question answered compared, and one recommended
bench/      Benchmarks
best_of.py  One answer out of several samples
held_out/   Held-out rows measured
judge/      A model as judge
pages/      Self-contained HTML pages and their charts
results.py  What was measured of a model, in the one form that every command writes and `ftkit compare` reads
verdict/    Runs compared
"""
