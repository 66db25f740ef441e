"""Many requests answered together, each by the version of the adapter that it was asked of.

answer.py        One answer on its way
batcher.py       Batcher
constraints.py   Answers held to a form, token by token
drawing.py      The next token of an answer, drawn by its own settings
json_schemas.py  JSON schemas that an answer can be held to
prompts.py       Prompts read block by block, and blocks that begin alike only once
registry.py      Names of adapters, and the versions that they point to
request.py       What is asked, and what comes back
slots.py         Keys and values of many answers side by side
text.py          The text of an answer as its tokens come
texts.py         Tokenizers and templates of many adapters
version.py       A version
"""
