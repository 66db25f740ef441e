"""A local server: one app that guards every request, and routes that parse, ask, and answer.

answers.py      Answers of the engine's thread as an asynchronous stream
api.py          The app of `ftkit serve`
app.py          The app: guards and errors around routes, and the server that runs it until Ctrl-C
asked.py        What a request asks of the answer's form, and the prompt with its tools
completion.py   A request for answers, whole or as a stream
guards.py       What every request passes
keys.py         Who may ask
lifetime.py     Ends a request whose client has gone, or whose time is up
local_names.py  Names of this machine, as a request's Host has them
messages.py     The messages of a request, as templates take them
metrics.py      What a server counts
page.py         A page of the folder pages/ as one text, with the policy that lets only its own script run
patience.py     How long a connection may take over its next request
refusals.py     What refuses a request before a route sees it
routes/         One file per group of routes
schema.py       What OpenAI's clients send
token_texts.py  Tokens as clients read them
their_engine.py  The command that serves one model by transformers' own server
vllm.py         Adapters handed to a vLLM server, and asked there whether they act
voting.py       The app that collects votes
"""
