"""Commands that join the stages, one file each; nothing imports them but ftkit/cli.py.

adapters/         `ftkit adapters` and its actions
arena.py          Ranks models from votes on their answers, by people or judges, and turns the votes into rows to
bakeoff.py        Tries every way to have a person's questions answered, and recommends one
bench.py          Benchmarks a model
chat.py           Talks to a model or to adapters that are swapped while it runs, streaming, each through the temp
check.py          Checks that a run can be killed and goes on
compare.py        Shows whether a model got better, and what it forgot, from two benchmark runs
completion.py     Prints the script that completes ftkit's command lines in a shell
data/             `ftkit data` and its actions, one file each
demo.py           The demo
export.py         Exports a model, or an adapter merged into its base, for other engines
generate.py       Answers prompts through the model's template, one by one or from a file
import_.py        Brings a GPT of your own into ftkit
index.py          Makes documents searchable
judge.py          Lets a model judge answers
predict/          `--predict` of classifiers and of reward models
push.py           Pushes a model or adapter folder to the Hugging Face Hub, and loads it back to see that it works
serve.py          Serves a model and its adapters to OpenAI's clients
synth.py          Lets a model write rows, from seeds or documents
tokenizer.py      Trains a byte-level BPE tokenizer, or takes GPT-2's, and shows how well it compresses held-out t
"""
