"""`ftkit adapters` and its actions.

adapters.py  `ftkit adapters list` and `info`
merge.py     `ftkit adapters merge`
"""
