"""Held-out rows measured: preferences and classes."""
