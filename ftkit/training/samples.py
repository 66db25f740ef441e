"""The held-out questions that are answered at each evaluation, so that a person sees a model learn."""

import math
from collections.abc import Callable

from ftkit.data.rows.questions import question_and_answer
from ftkit.data.tokens.tokenization import prompt_ids
from ftkit.inference.asking import Sampling
from ftkit.inference.engine import Engine
from ftkit.model.context import context_size
from ftkit.training.method import Run


def row_questions(run: Run) -> tuple[list[dict], Callable] | None:
    """Test rows as {"prompt", "reference"}, and what answers them; None where there are none.

    They are the first that were kept and whose question leaves room for an answer in the model's context.
    """
    data, training = run.data, run.config
    if not (data.test and data.template and training.num_samples):
        return None
    room = context_size(data.config) or math.inf
    if run.settings.model.use_peft and run.settings.model.peft_method == "prompt_tuning":
        room -= run.settings.model.num_virtual_tokens
    questions, prompts = [], []
    for turns, answer in (question_and_answer(data.rows.test[index]) for index in dict.fromkeys(data.test.kept)):
        if len(prompts) == training.num_samples:
            break
        ids = prompt_ids(turns, data.tokenizer, data.template)
        if len(ids) < room:
            prompts.append(ids)
            questions.append({"prompt": turns[-1]["content"] if turns else "", "reference": answer})
    if not prompts:
        return None

    def answer_all(model) -> list[str]:
        engine = Engine.of(model, data.tokenizer, data.template)
        return engine.texts(prompts, Sampling(max_new_tokens=training.sample_max_new_tokens))

    return questions, answer_all
