"""Rows made by a model: new tasks, questions from documents, solutions, preference pairs, RAFT rows.

asker.py       Asks a model, here or behind an endpoint, in batches, and keeps every reply
card.py        The card of synthetic rows
citations.py   Quotations with the number of their source, and whether that source says so
corruption.py  Answers made worse by a rule
evolve.py      Tasks rewritten into harder or rarer ones
filters.py     What a draft must keep to become a row
held_out.py    Questions of benchmarks and held-out rows, which no row may repeat or paraphrase
items.py       An item of synthesis
kinds.py       The kinds of synthesis by name
loop.py        The loop of synthesis
personas.py    What certain persons would ask
preferences.py  A better and a worse answer
prompts.py     What models are asked
questions.py   Questions that passages answer
raft.py        A question with numbered passages, and an answer that quotes one
reading.py     What synthesis begins with
reasoning.py   Solutions that come to the known answer
replies.py     Replies read
run.py         A run of synthesis in its folder
self_instruct.py  New tasks after examples
"""
