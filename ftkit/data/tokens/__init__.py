"""Rows as token ids with labels, documents as blocks, and the receipt that counts both.

blocks.py            Documents joined into blocks of a fixed length, an end token after each
bpe.py               Byte-level BPE tokenizers
characters.py        One token per character
labelled.py          Rows with one label each, for classifiers, as token ids, and the receipt of them
labelled_answers.py  Answers that are wanted or not as token ids, and the order they train in
learning_text.py     The learning receipt of a run (`ftkit.training.learning_receipt`) in words
preferences.py       Preference rows (see `ftkit.data.rows.kinds`) as token ids, cut where the answers start
prompts.py           Prompts (see `ftkit.data.rows.prompts`) as token ids, up to where an answer begins, each with roo
receipt.py           The batch receipt
receipt_text.py      The batch receipt for people
text_pairs.py        Pairs of texts for an embedding model as token ids, and the receipt of them
tokenization.py      Turns rows into token ids and labels
vocabularies.py      Whether two tokenizers mean the same by each id, compared by the bytes that the ids stand for
whole_pairs.py       Preference rows as whole conversations, for a reward model
"""
