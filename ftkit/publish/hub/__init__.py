"""What goes to the Hub, checked, in one commit, and loaded back.

card_checks.py   What the Hub refuses in a card's metadata, found without asking it
card_checks.py    What the Hub refuses in a card's metadata, found without asking it
fresh_process.py  Runs alone in a fresh Python process, without ftkit
hub.py            Pushes a model or adapter folder to the Hugging Face Hub
load_back.py      The load-back check
upload_checks.py  What is checked of every file before it is published
upload_plan.py    Which files of a folder are published, and as what
"""
