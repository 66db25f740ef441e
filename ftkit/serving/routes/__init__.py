"""Routes, one file per group: they parse, ask, and answer.

voting.py  Two answers shown blind, and the votes on them
"""
