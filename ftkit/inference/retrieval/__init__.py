"""Passages found: an index of them on disk or in PostgreSQL, searched by words and by meaning, and shown to a model.

building.py        An index made of documents, or brought up to them
encoding.py        Texts as vectors, and pairs of texts scored
index.py           An index
postgres_store.py  The same on a PostgreSQL server
prompting.py       Passages in front of a question
ranking.py         Ranked lists made one
retriever.py       What a command asks an index for
sqlite_store.py    Passages, their words and their vectors in one SQLite file
stores.py          What an index asks of the place where its passages lie
support.py         Whether a judge finds a sentence in its sources
"""
