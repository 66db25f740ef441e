"""The story of a training run: opened, announced, benchmarked, closed.

bakeoff/      A bake-off run
benchmark.py  --benchmark_tasks: before and after by itself
command_table.py  The commands by name
decisions.py  Decisions taken over from a run, or made on the first process and sent to all
golden.py     What base and result say to eight prompts, at the end of each run
identity.py   What makes a run that run, and how it differs from the one that a folder holds
killing.py    Runs that are killed on purpose, and what is left of them
lifecycle.py  The one story of a run
opening.py    How a run begins: its folder is taken, and what is there is gone on with
recipe.py     What a trainer is
recipes.py    The trainers by name
resume_check.py  Whether a run can be killed and goes on: a short piece of its own configuration is tried
row_check.py  What a trainer would refuse in rows before it reads any weights
"""
