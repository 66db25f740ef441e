"""What ftkit adds to TRL's trainers on sampled answers: its own sampler, rewards and advantages, and a comparison of
what was sampled with what is trained.

Stands between RunMixin and GRPOTrainer or RLOOTrainer, and sees the same for both.
"""

import copy
import inspect
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate.utils import gather
from safetensors.torch import load_file, save_file
from trl import GRPOTrainer
from trl.models import prepare_fsdp
from trl.trainer import utils as trl_utils
from trl.trainer.callbacks import SyncRefModelCallback

from ftkit.config.settings.grpo import SUM
from ftkit.config.versions import has_fused_head
from ftkit.inference.end_tokens import end_token_ids
from ftkit.inference.generation import answer_text
from ftkit.inference.sampling import Sample, sample
from ftkit.training.advantages import advantages, denominator_factor, teaches
from ftkit.training.reward_watch import NoExplosion, RewardEvaluationMixin, RewardWatch
from ftkit.training.rewards import Reward, columns_of, score, weights_of, with_missing_filled
from ftkit.training.sampler_check import SamplerCheck
from ftkit.training.sharing import is_sharded

SAMPLED = "sampled"  # of a checkpoint between two samplings: the answers that are still trained on
STEP_SEEDS, PROCESS_SEEDS = 100_003, 1_000_003  # primes, so that no two samplings draw alike


class SampledMixin(RewardEvaluationMixin):
    """Trainer part. rewards, rows, template, skips_equal_groups: set by `use`, before anything is sampled.

    The dataset's rows are {"prompt": turns, "prompt_ids", "place"}; `rows[place]` has what a reward needs.
    """

    rewards: list[Reward]
    rows: list[dict]

    def __init__(self, model, args, **kwargs):
        beta, syncs = args.beta, args.sync_ref_model
        is_whole = not hasattr(model, "peft_config") and kwargs.get("peft_config") is None
        reference = None
        if is_whole and beta:  # TRL would read the weights again, in the precision of their file and not in this one
            reference = copy.deepcopy(model).requires_grad_(False).eval()
            args.beta, args.sync_ref_model = 0.0, False
        for one in filter(None, (model, reference)):
            count_positions(one)
        super().__init__(model=model, args=args, **kwargs)
        if reference is not None:
            args.beta, args.sync_ref_model = beta, syncs
            self.attach_reference(reference, beta)
        self.check = SamplerCheck(self)
        self.add_callback(RewardWatch(self))

    def attach_reference(self, reference, beta: float) -> None:
        """Hold the model against a frozen copy of its start."""
        self.beta = beta
        casts = {"cast_lm_head_to_fp32": True} if getattr(self.args, "cast_lm_head_to_fp32", False) else {}
        if has_fused_head():
            trl_utils.add_fused_lm_head(reference, temperature=self.temperature, **casts)
        if self.is_fsdp_enabled:
            self.ref_model = prepare_fsdp(reference, self.accelerator)
        else:
            self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)
        if self.args.sync_ref_model:
            self.add_callback(SyncRefModelCallback(ref_model=self.ref_model, accelerator=self.accelerator))

    def use(self, rewards: list[Reward], rows: list[dict], template) -> None:
        """Take what answers are rewarded for, the rows, and the template whose end of turn ends an answer."""
        self.rewards, self.rows = rewards, rows
        self.explosion = NoExplosion()  # the loss of a policy gradient is no measure of it
        own = self.accelerator.unwrap_model(self.model).generation_config.eos_token_id
        self.eos_token_ids = end_token_ids(self._tokenizer, template, own)
        if getattr(self, "generation_config", None) is not None:
            self.generation_config.eos_token_id = self.eos_token_ids

    # Sampling

    def sample_ids(self, prompts: Sequence[list[int]], num_samples: int, seed: int) -> list[list[Sample]]:
        """Answers of the model as it stands. seed: of this sampling; each process draws its own."""
        model = self.accelerator.unwrap_model(self.model_wrapped)
        device = self.accelerator.device
        generator = torch.Generator(device).manual_seed(seed + PROCESS_SEEDS * self.accelerator.process_index)
        with self.accelerator.autocast():
            return sample(
                model, self._tokenizer, prompts, num_samples=num_samples, generator=generator,
                max_new_tokens=self.max_completion_length, end_ids=self.eos_token_ids, temperature=self.temperature,
            )  # fmt: skip

    def _tokenize_prompts(self, prompts):
        return [row["prompt_ids"] for row in self.asked], None, {}

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        self.sampled_logps = None
        if self.use_vllm or is_sharded(self):
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        runs = [list(run) for _, run in itertools.groupby(prompt_ids)]  # the answers of a prompt stand side by side
        sizes = {len(run) for run in runs}
        num = sizes.pop() if len(sizes) == 1 else 1
        prompts = [run[0] for run in runs] if num > 1 else list(prompt_ids)
        groups = self.sample_ids(prompts, num, self.args.seed + STEP_SEEDS * (1 + self._step))
        answers = [answer for group in groups for answer in group]
        self.sampled_logps = [answer.log_probs for answer in answers]
        ids = [answer.ids for answer in answers]
        return (ids, None) if isinstance(self, GRPOTrainer) else ids

    def _generate_and_score_completions(self, inputs):
        self.asked = inputs
        output = super()._generate_and_score_completions(inputs)
        if self.sampled_logps is not None:
            width = output["completion_ids"].shape[1]
            padded = [values + [0.0] * (width - len(values)) for values in self.sampled_logps]
            output["sampling_per_token_logps"] = torch.tensor(padded, device=self.accelerator.device)
            self.check.sampled_at = self.state.global_step
        self.take_advantages(output)
        return output

    # Rewards

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        texts = [answer_text(ids, self.eos_token_ids, self._tokenizer) for ids in completion_ids_list]
        found = score(self.rewards, prompts, texts, columns_of([self.rows[row["place"]] for row in inputs]))
        self.all_rewards = gather(found.float().to(self.accelerator.device))
        return with_missing_filled(self.all_rewards, self.num_generations)

    def take_advantages(self, output: dict) -> None:
        """Put ftkit's advantages in the place of TRL's, and leave out of the denominator what teaches nothing."""
        rewards, num, is_grpo = self.all_rewards, self.num_generations, isinstance(self, GRPOTrainer)
        weights = weights_of(self.rewards).to(rewards)
        own = slice(*(len(self.asked) * (self.accelerator.process_index + part) for part in (0, 1)))
        aggregation = self.multi_objective_aggregation if is_grpo else SUM
        if is_grpo:
            found = advantages(rewards, weights, num_generations=num, aggregation=aggregation, scale=self.scale_rewards)
            output["advantages"] = found[own]
        taught = teaches(rewards, weights, num, aggregation)
        if self.args.skip_equal_groups and (is_grpo or not self.beta):  # RLOO's KL is in the reward, and differs
            lengths = gather(output["completion_mask"].sum(dim=1))
            factor = denominator_factor(self.loss_type if is_grpo else "rloo", taught, lengths)
            output["advantages"] = output["advantages"] * factor
        output["teaches"] = taught[own]
        self._metrics["train"]["groups_with_spread"].append(taught.float().mean().item())

    # The loss

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        found = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        self.last_logps = found[0].detach()
        return found

    def _compute_loss(self, model, inputs):
        if getattr(self, "loss_type", "") == "bnpo" and self.args.skip_equal_groups:
            inputs = inputs | {"advantages": inputs["advantages"] * self.local_factor(inputs)}
        loss = super()._compute_loss(model, inputs)
        if self.model.training:
            self.check.compare(inputs, self.last_logps)
        return loss

    def local_factor(self, inputs: dict) -> float:
        """For bnpo, which divides by the tokens of this part of the batch: by those of what teaches."""
        lengths, taught = inputs["completion_mask"].sum(dim=1), inputs["teaches"]
        return denominator_factor("dapo", taught, lengths)

    # Resume: a checkpoint between two samplings keeps the answers that are still trained on

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        if self._buffered_inputs and self._step % (self.args.steps_per_generation * self.num_iterations):
            tensors = {
                f"{number}.{name}": value.detach().cpu().clone().contiguous()
                for number, batch in enumerate(self._buffered_inputs)
                for name, value in batch.items()
            }
            save_file(tensors, self.sampled_path(output_dir))

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        if not checkpoint:
            return
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        path = self.sampled_path(checkpoint)
        if path.is_file():
            batches: dict[int, dict] = {}
            for name, value in load_file(path, device=str(self.accelerator.device)).items():
                number, _, key = name.partition(".")
                batches.setdefault(int(number), {})[key] = value
            self._buffered_inputs = [batches[number] for number in sorted(batches)]

    def sampled_path(self, folder) -> Path:
        """Of this process."""
        return Path(folder) / f"{SAMPLED}_{self.args.process_index}.safetensors"


def count_positions(model) -> None:
    """Let a model count the positions of a padded batch from its mask, as it does while it samples.

    TRL gives prompts with padding on the left and no positions: learned ones would be those of other tokens.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return

    def with_positions(module, args, given):
        mask_BT = given.get("attention_mask")
        is_whole = mask_BT is not None and mask_BT.dim() == 2 and given.get("past_key_values") is None
        if is_whole and given.get("position_ids") is None and not mask_BT[:, 0].all():
            given = given | {"position_ids": (mask_BT.long().cumsum(dim=1) - 1).clamp(min=0)}
        return args, given

    base.register_forward_pre_hook(with_positions, with_kwargs=True)
