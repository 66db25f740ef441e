"""Whether it got better: answers, scores, intervals, and the report of a run.

bench/     Benchmarks
held_out/  Held-out rows measured
judge/     A model as judge
pages/     Self-contained HTML pages and their charts
verdict/   Runs compared
"""
