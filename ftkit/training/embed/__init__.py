"""Embedding models trained by sentence-transformers' trainer and losses, on rows that ftkit has tokenized.

batches.py    Batches in which no text stands twice, the same at each start
encoder.py    An encoder with its pooling as sentence-transformers has it; LoRA on it, and merged
losses.py     The losses of --loss_type, and Matryoshka around them
negatives.py  Passages that are near a question and not its own, from an index or from the rows
trainer.py    sentence-transformers' trainer on token ids, with what ftkit adds to every trainer
"""
