"""What a row may look like, how it is recognised and checked, and how it becomes messages.

allowed.py      What trainers refuse in rows unless a person allows it, and what they do with rows that teach nothing
checking.py     Turns records into rows of one kind, one by one
columns.py      Finds a file's format by its columns, and holds every row against the format of the first
conversion.py   Rows of one kind written in another format, in the columns that TRL knows
early_check.py  Checks rows before the training libraries are imported, so that their mistakes are reported at once
extras.py       What a row holds beside roles and texts: honoured, refused by name, or reported
formats.py      Finds a file's format by its columns and turns every row into chat messages, or into plain text
known_names.py  Names that files give the columns of a form, such as Question and Answer
kinds.py        The kinds of rows beside conversations, and all kinds together for `ftkit data`
prompts.py      Prompts that are answered by sampling, with what a reward may need of their rows
questions.py    What rows ask, with the answer that they know or without one
text_pairs.py   Rows for an embedding model: texts that belong together, and texts that are near and do not
thoughts.py     Thoughts
tools.py        Tools of a conversation, calls of them and their results, as files write them, in the one form that
"""
