"""Other engines' formats, each read back and compared."""
