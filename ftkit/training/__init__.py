"""Thin subclasses of TRL's trainers, and what surrounds a run: plan, checkpoints, progress, the run folder.

advantages.py        Advantages of sampled answers from their rewards, and what of a group teaches nothing
agreement.py         What one process decides, made the decision of all of them
answering.py         How many held-out rows are answered before and after training
batch_totals.py      Running totals of a run's batches
budget.py            What a pretraining run costs, and how fast it goes
callbacks.py         What a run reports while it goes: metrics.jsonl, sample answers
checkpointing.py     Checkpoints that a kill, a full disk or a damaged file cannot turn into a wrong resume
checkpoints.py       Checkpoints on the disk: found, verified, chosen, published, rotated
counters.py          What a trainer has counted: kept in a checkpoint, taken up by a resume
decided.py           What decisions rest on, and what they are: two frozen records
distill/             Distillation: what a teacher says, kept, and the losses that hold a student to it
dropout.py           Training without dropout, where a model must act as it did when it answered
embed/               Embedding models: batches, encoder, losses, mined negatives, trainer
explosion.py         Warns of a run that is finite and yet lost
facts.py             What decisions rest on, found out on the first process without loading the weights
first_process.py     What the first process finds out for all
fitting.py           What fits the device: memory, recomputed activations, fused layers, the loss head's kernel
guards.py            Stops a run whose loss, gradient or weights are not finite before anything of it is kept
learning_receipt.py  The learning receipt
method.py            How one trainer makes its data ready and trains
methods/             One file per trainer
moved.py             Whether training has moved what it says it trains, and nothing else
packing.py           Rows in blocks, and how attention keeps documents apart
plan.py              What a run does, decided once, each value with its reason
plan_text.py         The plan of a run as a person reads it, before the first step or, with --plan, instead of it
ppo/                 Proximal policy optimisation
preferences.py       What is watched of a preference run: that it moves, and not both answers downwards
preparation.py       Rows and weights made ready for a trainer
progress.py          How far a run is: a bar on a terminal, a line per logging step in a log file
reference.py         The reference of preference training, and what it says of rows, kept by content
reference_free.py    Losses of pairs that need no reference: ORPO, CPO and SimPO
reward_watch.py      What to look for while rewards are trained
rewards.py           Rewards of sampled answers, by name
run_trainer.py       What ftkit adds to every TRL trainer
sampled.py           What ftkit adds to TRL's trainers on sampled answers
sampler_check.py     Whether answers are sampled from the policy that is trained
samples.py           The held-out questions that are answered at each evaluation, so that a person sees a model learn
saving.py            When a checkpoint is written
sharded.py           Weights that are split over processes (FSDP2)
sharing.py           Work on held-out rows shared by the processes of a run, instead of done whole by each of them
space.py             How much room on the disk a run's checkpoints take
stopped_batch.py     The rows of a batch by name, for a run that stops
stopping.py          Signals of a run: saved at the next update, and ended
ternary.py           Fine-tuning to 1.58 bits
text_preparation.py  Text and weights made ready for pretraining
"""
