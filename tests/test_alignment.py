"""Which tests hold the identities of alignment and its traps: each that is named here is there."""

import ast
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GRPO, PPO, PAIRS = (
    "training/test_grpo_identities.py",
    "training/test_ppo_formulas.py",
    "training/test_preference_identities.py",
)
TRAPS, RECEIPT, RESUME = "runs/test_traps.py", "training/test_learning_receipt.py", "runs/test_grpo_resume.py"
PROOFS = {  # identity: the tests that hold it, through our code and TRL's trainers
    "1. one update without KL has the gradient -sum A grad log pi": [f"{GRPO}::test_the_gradient_is_that_of_reinforce"],
    "2. a constant added to rewards changes nothing, a factor only without scaling": [
        f"{GRPO}::test_a_constant_added_to_the_rewards_changes_nothing_and_a_factor_only_without_scaling",
    ],
    "3. padding on either side and the order of a batch change nothing": [
        f"{GRPO}::test_padding_and_order_change_no_log_probability",
        f"{PPO}::test_padding_and_order_change_no_gradient",
        f"{PAIRS}::test_the_loss_is_the_same_in_any_order_and_with_any_padding",
    ],
    "4. one batch of eight is eight batches of one is two processes, for dapo and dr_grpo and not for bnpo": [
        f"{GRPO}::test_one_batch_is_as_good_as_several_added_up",
        "test_multi_process.py::test_two_processes_learn_from_answers_and_a_teacher_as_one",
        "training/test_ppo.py::test_a_split_of_the_batch_changes_nothing",
    ],
    "5. a group of equal rewards has no gradient, nor a part in the denominator": [
        f"{GRPO}::test_a_group_of_equal_rewards_changes_nothing_not_even_the_denominator",
    ],
    "6. an answer twice as long counts twice for dr_grpo and once for grpo": [
        f"{GRPO}::test_an_answer_twice_as_long_counts_twice_for_dr_grpo_and_once_for_grpo",
    ],
    "7. a reference that is the policy has no KL, in value and gradient": [
        f"{GRPO}::test_a_reference_that_is_the_policy_has_no_kl_and_no_gradient",
        f"{PAIRS}::test_a_policy_that_is_its_reference_has_no_margin_and_no_kl",
        "training/test_ppo.py::test_reference_and_policy_are_one_at_the_start",
    ],
    "8. the sampler's log-probabilities are the trainer's": [
        f"{RESUME}::test_a_run_that_is_killed_while_it_samples_goes_on_bit_for_bit",
        "training/test_ppo.py::test_the_trainer_scores_tokens_as_the_sampler_did",
        "inference/test_sampling.py::test_the_log_probabilities_are_those_of_a_plain_forward_pass",
    ],
    "9. a student that is its teacher has no divergence": [
        "training/test_distillation_losses.py::test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient",
    ],
    "10. a batch scores as one by one, and after reload as before": [
        "inference/test_reward_model.py::test_a_batch_scores_as_one_by_one_whatever_pads_it",
        "test_reward.py::test_a_head_that_is_not_saved_as_it_was_trained_fails_the_run",
        "test_reward.py::test_a_fresh_process_gives_the_scores_of_this_one_and_its_mistake_in_one_line",
    ],
    "11. PPO with lambda 1, gamma 1, no clip and value 0 is REINFORCE": [f"{PPO}::test_without_clip_and_value_it_is_reinforce"],
}  # fmt: skip
STOPS = {  # trap: the tests that show it stopped or warned of; TRAPS are those of each trainer
    "chosen == rejected": [
        "test_dpo.py::test_equal_pairs_are_left_out_and_named",
        "test_reward.py::test_equal_and_long_pairs_are_left_out_and_counted",
        "test_kto.py::test_a_mistake_is_one_line",
        "test_known_traps.py::test_equal_answers_are_left_out_and_not_trained_at_ln_2_for_ever",
    ],
    "empty answers": [f"{TRAPS}::test_a_trap_is_one_line", "test_reward.py::test_a_mistake_is_one_line_and_exit_2"],
    "prompts that differ within a pair": [f"{TRAPS}::test_a_trap_is_one_line", "data/test_preference_rows.py::test_mistakes_name_the_line"],
    "string prompts": [f"{TRAPS}::test_a_string_is_asked_as_a_users_turn_of_the_template", f"{TRAPS}::test_a_trap_is_one_line"],
    "all rewards equal": [
        f"{RECEIPT}::test_what_can_teach_nothing_is_refused_unless_it_is_started_anyway",
        f"{RESUME}::test_what_can_teach_nothing_or_does_not_fit_stops_before_the_first_step",
        "training/test_reward_watch.py::test_what_goes_wrong_is_warned_of_once",
    ],
    "None rewards": [f"{TRAPS}::test_a_trap_is_one_line", "training/test_rewards.py::test_a_missing_reward_moves_nothing"],
    "answers all cut": [
        f"{RESUME}::test_what_can_teach_nothing_or_does_not_fit_stops_before_the_first_step",
        f"{TRAPS}::test_a_trap_is_one_line",
        "test_distill.py::test_a_teacher_that_never_ends_its_answers_is_refused_and_asked_once",
        "test_distill.py::test_a_student_that_never_ends_its_answers_is_warned_of_once",
    ],
    "teacher of another vocabulary": [
        "test_distill.py::test_a_teacher_of_another_vocabulary_is_refused_in_one_line_that_names_the_way_out",
    ],
    "LoRA on the head": [f"{TRAPS}::test_a_trap_is_one_line", "test_reward.py::test_a_mistake_is_one_line_and_exit_2"],
    "model without end token": [
        f"{TRAPS}::test_a_trap_is_one_line",
        "test_reward.py::test_a_model_without_an_end_token_is_refused_before_its_weights_are_read",
    ],
    "kill in the middle of sampling": [
        f"{RESUME}::test_a_run_that_is_killed_while_it_samples_goes_on_bit_for_bit",
        "training/test_ppo.py::test_a_run_that_is_killed_while_it_samples_goes_on_bit_for_bit",
        "test_distill.py::test_a_run_that_is_killed_while_it_samples_goes_on_bit_for_bit",
    ],
}  # fmt: skip


@cache
def names_in(path: str) -> set[str]:
    """Names of the tests in a file."""
    tree = ast.parse((HERE / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("what", "tests"), [*PROOFS.items(), *STOPS.items()], ids=[*PROOFS, *STOPS])
def test_each_identity_and_each_trap_has_its_tests(what, tests):
    for test in tests:
        path, _, name = test.partition("::")
        assert name in names_in(path), f"{what}: no {test}"


def test_none_of_the_eleven_is_left_out():
    assert len(PROOFS) == len(STOPS) == 11
