"""How many held-out rows are answered before and after training: as many as cost under a tenth of the run.

Costs are counted in tokens of a forward pass, so that they need no clock: on a CPU a training step costs 2.4 of them a
token (SmolLM2-135M: 2.6, the bundled base: 2.4), a decoding step of B answers about 28 + 1.2 * B (measured at B 8 and
32 on both). On a GPU a decoding step takes the launches of its kernels, however many answers there are.
"""

import math

from ftkit.training.decided import Facts

MAX_ROWS, FEWEST_ROWS = 200, 40  # fewer than these show little; where not as many are held out, all of them
SHARE = 0.1  # of the run that answering may cost
FREE_FLOPS = {True: 2e11, False: 8e14}  # some seconds, on a CPU and on a GPU, which a run always spends
MIN_UPDATES = 10  # a shorter run is a trial
NUM_EXAMPLES = 3  # of training rows, in the prompt of the base
MAX_NEW_TOKENS, SPARE_TOKENS = 256, 4  # of an answer: so many more than the longest one wanted, at most MAX_NEW_TOKENS
FULL, PEFT, RECOMPUTED, REFERENCE = 2.4, 2.0, 1.0, 1.0  # forward passes that a training step costs
BATCH_SIZE = {True: 32, False: 128}  # answers at once, on a CPU and on a GPU
STEP_TOKENS, TOKENS_PER_ANSWER = 28, 1.2  # of a decoding step on a CPU
LAYER_FLOPS = 2e11  # that a GPU as fast as an H100 could do while it launches a layer's kernels


def answering(asked, facts: Facts, values: dict, reasons: dict) -> dict:
    """How many held-out rows are answered, 0 for none."""
    training, most = asked.training, min(len(facts.held_out), MAX_ROWS)
    wanted = getattr(training, "before_after", None)
    if not hasattr(training, "before_after") or not most or wanted is False:
        return {"num_answered": 0}
    if not wanted and values["eval_strategy"] == "no":
        return {"num_answered": 0}
    if wanted or training.fsdp:
        return {"num_answered": most if wanted else 0}
    if values["num_updates"] < MIN_UPDATES:
        reasons["num_answered"] = f"only {values['num_updates']} updates; --before_after answers held-out rows anyway"
        return {"num_answered": 0}
    run = run_tokens(asked, facts, values)
    allowed = max(SHARE * run, FREE_FLOPS[facts.hardware.is_cpu] / (2 * facts.shape.num_parameters))
    fewest = min(most, FEWEST_ROWS)
    number = next((n for n in range(most, fewest - 1, -1) if answer_tokens(asked, facts, values, n) <= allowed), 0)
    share = answer_tokens(asked, facts, values, number or fewest) / run
    cost = f"about {share:.0%} of the run's time" if share <= SHARE else "some seconds"
    reasons["num_answered"] = (
        f"held-out rows, before and after, which takes {cost} (--before_after false: none)"
        if number
        else f"answering {fewest} held-out rows would take {share:.0%} of the run's time; --before_after does so anyway"
    )
    return {"num_answered": number}


def run_tokens(asked, facts: Facts, values: dict) -> float:
    """What training costs."""
    row = sum(facts.lengths) / max(1, len(facts.lengths))
    sequences = values["per_device_train_batch_size"] * values["gradient_accumulation_steps"]
    tokens = values["num_updates"] * sequences * (values["block_length"] if values["packing"] else row)
    passes = (PEFT if asked.model.use_peft else FULL) + RECOMPUTED * values["activation_checkpointing"]
    return tokens * (2 * (passes + REFERENCE) if is_of_pairs(asked) else passes)


def answer_tokens(asked, facts: Facts, values: dict, number: int) -> float:
    """What answering so many rows costs in all: by the base bare and with examples, and by the result; of pairs by the
    reference and the result."""
    prompt = sum(total - answer for total, answer in facts.held_out) / len(facts.held_out)
    steps = new_tokens([answer for _, answer in facts.held_out])
    batch = min(number, BATCH_SIZE[facts.hardware.is_cpu])
    step = STEP_TOKENS + TOKENS_PER_ANSWER * batch
    if not facts.hardware.is_cpu:
        step = facts.shape.num_layers * LAYER_FLOPS / (2 * facts.shape.num_parameters)
    answers = number * prompt + math.ceil(number / batch) * steps * step
    examples = NUM_EXAMPLES * sum(facts.lengths) / max(1, len(facts.lengths))  # read once for a batch
    return 2 * answers if is_of_pairs(asked) else 3 * answers + math.ceil(number / batch) * examples


def new_tokens(wanted: list[int]) -> int:
    """The longest answer that is generated, by the lengths of those wanted."""
    return min(MAX_NEW_TOKENS, max(wanted) + SPARE_TOKENS)


def is_of_pairs(asked) -> bool:
    """Whether rows are pairs of answers."""
    return getattr(asked.training, "sequences_per_row", 1) == 2
