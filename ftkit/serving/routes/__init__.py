"""Routes, one file per group: they parse, ask, and answer.

chat.py    A conversation answered
models.py  What can be asked
voting.py  Two answers shown blind, and the votes on them
"""
