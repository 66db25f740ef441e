"""`--predict` of classifiers and of reward models: what a trained head says of a file's rows.

answers.py  `ftkit reward --predict`: scores the answers of a file by a reward model
common.py   What the two share: their flags, the file, where the lines go, and how many are right
texts.py    `ftkit classify --predict`: puts the texts of a file into the classes of a trained classifier
"""
