"""Prompt templates: installing, rendering, forged turns neutralised, and the lock that holds a model to its own."""
