"""A model asked: answers, log-likelihoods, losses and divergence, here or behind an OpenAI-compatible endpoint.

answer_file.py     A file of answers, written as they come; after a kill the same command goes on with it
answering.py       Many questions answered in batches, as they come
asking.py          What a person asks of a model
batching/          Many requests answered together, as a server needs it
certificate.py     A certificate: its flags, its limits and its words
certified.py       What was made of adapters and models, held on rows against what it should equal
completion.py      What came back from an OpenAI-compatible server
computed.py        Adapters and models that are computed from others, written and measured
cost.py            What replies cost
difference.py      How differently two models, or adapters, answer
divergence.py      How far one model's next-token distribution is from another's, at the answers' tokens of rows
end_tokens.py      Which tokens end an answer
endpoint.py        Asks any OpenAI-compatible server (Ollama, vLLM, transformers serve, a paid one)
engine.py          Engine
final_number.py    The number that an answer ends with
fresh_scores.py    Scores of a saved reward model from a process that knows nothing but its folder
generation.py      Answers to many prompts
golden.py          Golden prompts
judging.py         What a judge is asked, and the only replies that count
log_likelihood.py  Log-likelihoods of continuations, in nats, with every token that several of them share computed
merged.py          An adapter merged, and how far the merged folder is from the adapter on its base, on held-out rows
refusals.py        Whether an answer refuses
retrieval/         Passages found: an index of them, searched by words and by meaning, and shown to a model
reward_model.py    A reward model in use
sampling.py        Samples of a model's own distribution, for training on them
scoring.py         Scores of answers
sentences.py       Embeddings of texts by a sentence encoder
shown.py           A reply as a person reads it
side_by_side.py    Several models asked the same
synth/             Rows made by a model
tool_calls.py      Calls of tools read out of an answer, whole or as it streams, in the ways that models write them
"""
