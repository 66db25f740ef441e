"""A local server: one app that guards every request, and routes that parse, ask, and answer.

app.py     The app: guards and errors around routes, and the server that runs it until Ctrl-C
guards.py  What every request passes
page.py    A page of the folder pages/ as one text, style and script inside, with the policy that lets only these run
routes/    One file per group of routes
voting.py  The app that collects votes
"""
