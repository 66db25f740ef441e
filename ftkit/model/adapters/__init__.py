"""Adapters: methods, their files, putting one on its base, and merging it in."""
