"""`ftkit adapters` and its actions.

adapters.py  Finds adapters, tells what is in one, and merges one into its base with the change measured
merge.py     `ftkit adapters merge`: merges an adapter and measures, on held-out rows, how far the merged
"""
