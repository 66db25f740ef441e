"""Prompt templates: installing, rendering, forged turns neutralised, and the lock that holds a model to its own.

answers.py       How the answers of a template are found
forgery.py       Keeps text from being read as structure
lock.py          The template lock
rendering.py     Renders conversations as text and finds the characters of their answers, with or without generati
role_markers.py  Finds the text by which a chat template shows whose turn it is where no control token does it, as
templates.py     Prompt templates
tools.py         The place of tools in a template
"""
