"""`ftkit data` and its actions, one file each."""
