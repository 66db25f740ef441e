"""A bake-off: who competes, what each answered and costs, which one to take, and the page that shows it.

answers.py         Held-out questions answered by a contestant, with tokens and memory counted
contest.py         Who competes, and what is known of each
page.py            OUT/report.html
quotes.py          Answers of a contestant that was trained to quote
recommendation.py  Which contestant to take, in one sentence with its reason
standing.py        The contestants compared pair by pair, and what training made them forget
text.py            The table for a terminal, and for the page
"""
