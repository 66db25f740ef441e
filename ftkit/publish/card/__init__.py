"""The model card and its results."""
