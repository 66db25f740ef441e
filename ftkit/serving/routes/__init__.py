"""Routes, one file per group: they parse, ask, and answer.

adapters.py     Adapters loaded and unloaded while the server runs
chat.py         A conversation answered
completions.py  Texts continued
embeddings.py   Embeddings of texts
models.py       What can be asked
operation.py    Health and counts
page.py         A page that needs nothing else
rollouts.py     What a trainer asks that draws its rollouts here
scores.py       The log-probability of given continuations
tokens.py       Text to tokens and back
voting.py       Two answers shown blind, and the votes on them
"""
