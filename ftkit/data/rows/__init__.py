"""What a row may look like, how it is recognised and checked, and how it becomes messages."""
