"""A bake-off run: its contestants made and asked, one after the other, each in a process of its own.

asked.py     What a person asks of a bake-off
bakeoff.py   The story of a bake-off
budget.py    What each contestant may train for, in passes over its rows
making.py    A contestant trained, by `ftkit sft`
passages.py  Passages of the documents: for a question, and for rows that teach to quote
setup.py     What all contestants share: the split, the longest answer, the index
asking.py    A contestant asked the held-out questions
work.py      The pieces of work, each in a process of its own
"""
