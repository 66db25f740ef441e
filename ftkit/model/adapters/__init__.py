"""Adapters: methods, their files, putting one on its base, merging it in, and computing others from them.

combining.py    Several LoRA adapters of one base combined into one
comparing.py    How two adapters, or two models, differ in their weights
description.py  What is in an adapter, what it belongs to and how much it changes, in words and figures
embeddings.py   Embeddings and heads that an adapter's file carries whole
extracting.py   The difference of two models as a LoRA
files.py        What is in an adapter's folder
loading.py      Puts adapters on their base, and refuses what PEFT would take in silence
merging.py      Merges an adapter into its base
methods.py      What is trained
pruning.py      A LoRA adapter of a smaller rank
parts.py        What an adapter does to the rows of a batch, module by module
routed.py       Adapters that share a base in memory, each row of a batch with its own
updates.py      What a LoRA adapter adds to each weight
writing.py      Writes the folder of an adapter that was computed instead of trained
"""
