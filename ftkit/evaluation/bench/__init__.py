"""Benchmarks: task files, items, the units of work, scores, results.json and its report.

bench.py           Runs benchmark tasks on one subject into a folder
choosing.py        Which tasks a command line names, with their items
records.py         The answered items of a benchmark on disk
report.py          A benchmark run as report.md and report.html beside its results.json
retrieval.py       Questions whose passages an index should find
sampled.py         Items answered several times
scores.py          The scores of a task from its items
subject.py         What is benchmarked, loaded as a command line says, and the processes that share the work
task_file.py       Benchmark tasks as YAML files
task_items.py      The questions of a task, rendered
task_rows.py       The rows of a benchmark task
task_templates.py  The Jinja templates of a task, rendered with the columns of a row
tool_calls.py      Items whose answers are held against wanted calls of tools
tool_rows.py       Rows with tools for a task
units.py           How the items of each kind of task are answered
"""
