"""A local server: one app that guards every request, and routes that parse, ask, and answer.

answers.py  Answers of the engine's thread as an asynchronous stream
api.py      The app of `ftkit serve`
app.py      The app: guards and errors around routes, and the server that runs it until Ctrl-C
guards.py   What every request passes
page.py     A page of the folder pages/ as one text, style and script inside, with the policy that lets only these run
routes/     One file per group of routes
schema.py   What OpenAI's clients send
voting.py   The app that collects votes
"""
