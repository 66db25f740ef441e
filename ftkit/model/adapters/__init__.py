"""Adapters: methods, their files, putting one on its base, and merging it in.

description.py  What is in an adapter, what it belongs to and how much it changes, in words and figures
embeddings.py   Embeddings and heads that an adapter's file carries whole
files.py        What is in an adapter's folder
loading.py      Puts adapters on their base, and refuses what PEFT would take in silence
merging.py      Merges an adapter into its base
methods.py      What is trained
routed.py       Adapters that share a base in memory, each row of a batch with its own
"""
