"""Runs compared: pairing, the verdict, its text and page, and questions found in training rows."""
