"""Prompt templates: installing, rendering, forged turns neutralised, and the lock that holds a model to its own.

forgery.py       Keeps text from being read as structure
lock.py          The template lock
rendering.py     Renders conversations as text and finds the characters of their answers, with or without generati
role_markers.py  Finds the text by which a chat template shows whose turn it is where no control token does it, as
templates.py     Prompt templates
tools.py         Tools in a conversation
"""
