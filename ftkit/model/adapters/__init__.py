"""Adapters: methods, their files, putting one on its base, and merging it in.

embeddings.py  Embeddings and heads that an adapter's file carries whole, in each of the forms in which PEFT writes them
files.py       What is in an adapter's folder
loading.py     Puts adapters on their base, and refuses what PEFT would take in silence
merging.py     Merges an adapter into its base
methods.py     What is trained
"""
