"""`ftkit adapters` and its actions."""
