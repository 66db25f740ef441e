"""Thin subclasses of TRL's trainers, and what surrounds a run: plan, checkpoints, progress, the run folder.

batch_totals.py          Running totals of a streamed run
budget.py                How long a pretraining run is, how its learning rate moves, and what it costs, settled be
callbacks.py             What a run tells while it goes
checkpointing.py         Checkpoints that a kill, a full disk or a damaged file cannot turn into a wrong resume
methods/                 One file a trainer
plan.py                  The plan of a run, settled and printed before the first step
preparation.py           Rows and weights made ready for a trainer
run_trainer.py           What ftkit adds to every TRL trainer
text_preparation.py      Text and weights made ready for pretraining
"""
