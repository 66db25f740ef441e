"""Rows as token ids with labels, documents as blocks, and the receipt that counts both."""
