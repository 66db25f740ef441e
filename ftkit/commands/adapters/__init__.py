"""`ftkit adapters` and its actions.

adapters.py  `ftkit adapters list` and `info`
combine.py   `ftkit adapters combine`
diff.py      `ftkit adapters diff`
extract.py   `ftkit adapters extract`
merge.py     `ftkit adapters merge`
mix.py       `ftkit adapters merge --models`
prune.py     `ftkit adapters prune`
"""
