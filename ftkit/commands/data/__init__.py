"""`ftkit data` and its actions, one file each.

check.py    Checks every row of a file, a folder, a bundled dataset or a Hub dataset, and lists all mistakes
common.py   What the actions of `ftkit data` share
convert.py  Writes rows in another format, by default in TRL's own columns
data.py     Looks at rows before they are trained on
dedup.py    Leaves out rows that are there already, exactly or nearly
fix.py      Writes rows with what can be fixed without guessing, and lists the rest
leaks.py    Looks for the rows of a test or benchmark file among training rows
show.py     Shows a row at any stage on its way into a model
split.py    Splits rows into a training and a test file without a leak
stats.py    Shows what rows look like
"""
