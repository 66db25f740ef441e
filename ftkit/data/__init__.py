"""Data: files and datasets read strictly, turned into messages, rendered by a template, tokenized and accounted for.

cleaning/   Rows against rows
index/      Documents as they lie in a folder, cut into passages that a search can find
reading/    Files, folders and Hub datasets read strictly, row by row, each mistake with its file and line
rows/       What a row may look like, how it is recognised and checked, and how it becomes messages
templates/  Prompt templates
tokens/     Rows as token ids with labels, documents as blocks, and the receipt that counts both
"""
