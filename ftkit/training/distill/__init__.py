"""Distillation: what a teacher says, kept, and the losses that hold a student to it.

divergence.py  How far a student's next-token distribution is from its teacher's: KL, reverse KL and what lies between
kept.py        What a teacher says of the rows, kept on the disk: its likeliest tokens at each trained one
offline.py     Training on rows' answers: the student held to what a teacher says of them, and to the labels
on_policy.py   Training on the student's own samples, held to the teacher by TRL's DistillationTrainer
teacher.py     The teacher: which model, whether the student speaks its tokens and its template, and its weights
written.py     Answers that a teacher writes to the rows' questions, kept one by one
"""
