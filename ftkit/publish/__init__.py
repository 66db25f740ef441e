"""What leaves the machine: the model card.

card/    The model card and its results
export/  Other engines' formats, each read back and compared
hub/     What goes to the Hub, checked, in one commit, and loaded back
"""
