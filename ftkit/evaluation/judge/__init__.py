"""A model as judge: prompts, requests, results, votes.

answer_files.py  Answers to be judged, from the files that ftkit writes and from common ones
ballot.py        A person's votes on pairs of answers whose models are hidden
folder.py        The folder of a judging
judge.py         A model as judge
local.py         Asks a judge that is loaded here, batch by batch
making.py        Answers of several models to a file of questions, made here and kept as they come
summary.py       What a judging came to
votes.py         Votes on pairs of answers, from people or judges, as a .jsonl file
writing.py       What a judge found, in the forms that others read
"""
