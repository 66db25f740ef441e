"""Proximal policy optimisation: answers are sampled, rewarded, and learned from in a few clipped passes.

A rollout of `PPOTrainer` is the algorithm of the textbooks:
1. an answer to each prompt is sampled and scored; log pi(token), log pi_ref(token) and V(state) of its tokens are kept;
2. the reward of a token is minus the KL term, of the last one also the score; from these come advantages, whitened;
3. `num_ppo_epochs` passes over the answers, each in `num_mini_batches` updates of the policy and the value head.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer

from ftkit.config.errors import UserError
from ftkit.inference.generation import evaluation_mode
from ftkit.inference.sampling import Sample, sample
from ftkit.training.dropout import remove_dropout
from ftkit.training.ppo import formulas
from ftkit.training.ppo.rollout import (
    Rollout,
    generator_of,
    joined,
    padded_rollout,
    parts,
    permutation,
    prompt_places,
    read,
)
from ftkit.training.ppo.value_part import ValueHeadMixin
from ftkit.training.reward_watch import NoExplosion, RewardEvaluationMixin, RewardWatch
from ftkit.training.run_trainer import RunMixin

# B answers of a rollout on this process, K positions in which answers lie


class PPOTrainer(ValueHeadMixin, RewardEvaluationMixin, RunMixin, Trainer):
    """Trainer whose batches are rollouts. A step is an update, so a rollout lasts num_ppo_epochs * num_mini_batches.

    train_dataset: prompts, {"prompt_ids", ...} each. score: (prompts, samples) to a score for each, NaN for a missing
    one. reference: the starting policy. end_ids: tokens that end an answer. The model has its head as `model.value`.
    """

    kl_flags = "--kl_coef"

    def __init__(self, *args, reference, score: Callable, end_ids: list[int], **kwargs):
        super().__init__(*args, **kwargs)
        args = self.args
        remove_dropout(self.model)  # it would make the ratios to the sampled answers noise
        self.reference, self.score, self.end_ids = reference.to(args.device).eval(), score, end_ids
        self.minibatch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps
        self.loss_is_scaled_for_ga = True  # the loss is a sum over the tokens of the whole update
        self.kl_coef, self.rollout = args.kl_coef, {}
        self.measures: dict[str, float] = {}  # of the rollout
        self._metrics = {"train": defaultdict(list)}  # of updates since the last log line; kept in checkpoints
        self._total_train_tokens = 0
        self.explosion = NoExplosion()  # the loss of a policy gradient is no measure of it
        self.add_callback(RewardWatch(self))

    def get_train_dataloader(self) -> DataLoader:
        """A place for each batch of a pass: what is trained on is sampled when it is due."""
        accumulation = self.args.gradient_accumulation_steps
        per_batch = self.args.per_device_train_batch_size * self.args.world_size
        updates = self.args.updates_per_pass(len(self.train_dataset), per_batch, accumulation)
        return DataLoader(range(updates * accumulation), batch_size=1)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The batches of the next update and their number of tokens in all processes; of a new rollout where due."""
        args = self.args
        for _ in range(num_batches):
            next(epoch_iterator)
        number, update = divmod(self.state.global_step, args.num_ppo_epochs * args.num_mini_batches)
        if update == 0:
            self.rollout = self.new_rollout(number)
        epoch, place = divmod(update, args.num_mini_batches)
        order = permutation(len(self.rollout["mask"]), args.seed, number, epoch, args.process_index)
        chosen = order[place * self.minibatch_size :][: self.minibatch_size]
        minibatch = {name: tensor[chosen] for name, tensor in self.rollout.items()}
        return list(parts(minibatch, args.per_device_train_batch_size)), self.total(minibatch["mask"].sum())

    def sample_ids(self, prompts_ids: Sequence[list[int]], num_samples: int, *seeds: int) -> list[list[Sample]]:
        """Answers of the policy as it stands, of which each process draws its own."""
        args = self.args
        generator = generator_of(*seeds, args.process_index, device=args.device)
        with self.accelerator.autocast():
            return sample(
                self.model, self.processing_class, prompts_ids, num_samples=num_samples, end_ids=self.end_ids,
                max_new_tokens=args.max_completion_length, temperature=args.temperature, generator=generator,
            )  # fmt: skip

    def new_rollout(self, number: int) -> Rollout:
        """Answers to the next prompts, scored, with what policy, reference and value head say of each token."""
        args, start = self.args, time.perf_counter()
        seed = None if args.train_sampling_strategy == "sequential" else args.data_seed or args.seed
        places = prompt_places(number, len(self.train_dataset), args.rollout_size(args.world_size), seed)
        prompts = [self.train_dataset[place] for place in places[args.process_index :: args.world_size]]
        prompts_ids = [prompt["prompt_ids"] for prompt in prompts]
        samples = [group[0] for group in self.sample_ids(prompts_ids, 1, args.seed, number)]
        answers_ids = [one.ids for one in samples]
        self.measures["sampled_tokens_per_second"] = sum(map(len, answers_ids)) / (time.perf_counter() - start)
        rollout = padded_rollout(prompts_ids, answers_ids, self.processing_class.pad_token_id, args.device)
        batches = list(parts(rollout, args.per_device_train_batch_size))
        with evaluation_mode(self.model), self.accelerator.autocast():
            policy, reference = (
                joined([read(model, model, batch, args.temperature) for batch in batches])
                for model in (self.model, self.reference)
            )
        rollout |= policy | {"kl": policy["log_probs"] - reference["log_probs"]}
        self.weigh(rollout, self.score(prompts, samples), [not one.is_ended for one in samples])
        return rollout

    def weigh(self, rollout: Rollout, scores: Sequence[float], is_cut: Sequence[bool]) -> None:
        """Add advantages and returns to a rollout, and set the weight of the KL term for the next.

        scores: NaN of an answer that has none, which teaches nothing. is_cut: whether it lacks its end token.
        """
        args, device = self.args, self.args.device
        scores_B, is_cut_B = (torch.tensor(values, dtype=torch.float32, device=device) for values in (scores, is_cut))
        rollout["mask"] *= ~scores_B.isnan()[:, None]
        mask_BK, values_BK = rollout["mask"], rollout["values"]
        kl_BK, scores_B = rollout.pop("kl") * mask_BK, scores_B.nan_to_num()
        paid_B = scores_B - (args.missing_eos_penalty or 0.0) * is_cut_B
        rewards_BK = formulas.token_rewards(paid_B, kl_BK, mask_BK, self.kl_coef) * mask_BK
        plain_BK, returns_BK = formulas.advantages_and_returns(rewards_BK, values_BK, mask_BK, args.gamma, args.lam)
        advantages_BK = formulas.whitened(plain_BK, mask_BK, self.total) if args.whiten_advantages else plain_BK
        rollout |= {"advantages": advantages_BK, "returns": returns_BK}
        means = self.means_of({
            "reward": scores_B, "reward_after_kl": rewards_BK.sum(1), "kl_per_answer": kl_BK.sum(1),
            "completions/clipped_ratio": is_cut_B, "completions/mean_length": mask_BK.sum(1),
            "entropy": (rollout.pop("entropy") * mask_BK).sum(1),
        }, mask_BK.any(dim=1))  # fmt: skip
        length = means["completions/mean_length"]
        means |= {"kl": means["kl_per_answer"] / length, "entropy": means["entropy"] / length}  # per token
        explained = formulas.explained_variance(values_BK, returns_BK, mask_BK, self.total)
        self.measures |= means | {"explained_variance": explained, "kl_coef": self.kl_coef}
        if args.kl_target:
            self.kl_coef = formulas.adapted_kl_coef(self.kl_coef, means["kl_per_answer"], args.kl_target)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The clipped losses of policy and values per token of the update; the sum over its batches is its loss."""
        args, mask_BK = self.args, inputs["mask"]
        with self.accelerator.autocast():
            now = read(model, self.accelerator.unwrap_model(model), inputs, args.temperature)
        policy, clipped = formulas.policy_loss(
            now["log_probs"], inputs["log_probs"], inputs["advantages"], mask_BK, args.cliprange
        )
        value = formulas.value_loss(now["values"], inputs["values"], inputs["returns"], mask_BK, args.cliprange_value)
        per_token = args.world_size / num_items_in_batch.clamp(min=1)  # gradients are averaged over processes
        for name, one in {"policy_loss": policy, "value_loss": value, "clip_ratio": clipped}.items():
            mean = one.detach() * per_token * self.current_gradient_accumulation_steps
            self._metrics["train"][name].append(float(mean))
        self._total_train_tokens += int(inputs["attention_mask"].sum()) * args.world_size
        return (policy + args.vf_coef * value) * per_token

    def total(self, sums: Tensor) -> Tensor:
        """Added up over processes."""
        return self.accelerator.reduce(sums, reduction="sum")

    def means_of(self, measures: dict[str, Tensor], is_known_B: Tensor) -> dict[str, float]:
        """The mean of each measure over the answers of all processes that have a score."""
        sums = torch.stack([(one * is_known_B).sum().double() for one in (*measures.values(), is_known_B)])
        *totals, count = self.total(sums).tolist()
        if not count:
            raise UserError("no answer of a rollout has a reward, so there is nothing to learn from; see --rewards")
        return {name: one / count for name, one in zip(measures, totals, strict=True)}

    def log(self, logs, *args, **kwargs):
        """As Trainer.log, with the measures of the rollout and the means of the updates since the last line."""
        if "loss" in logs:
            logs |= self.measures | {name: sum(values) / len(values) for name, values in self._metrics["train"].items()}
            logs["num_tokens"] = self.num_tokens_seen()
            self._metrics["train"].clear()
        super().log(logs, *args, **kwargs)

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        kept = {"kl_coef": self.kl_coef, "rollout": self.rollout, "measures": self.measures}
        torch.save(kept, self.rollout_path(output_dir))

    def _load_from_checkpoint(self, checkpoint, *args, **kwargs):
        super()._load_from_checkpoint(checkpoint, *args, **kwargs)
        kept = torch.load(self.rollout_path(checkpoint), weights_only=True, map_location="cpu")
        self.kl_coef, self.measures = kept["kl_coef"], kept["measures"]
        self.rollout = {name: tensor.to(self.args.device) for name, tensor in kept["rollout"].items()}

    def rollout_path(self, folder) -> Path:
        """Where a checkpoint keeps what this process is learning from."""
        return Path(folder) / f"rollout_{self.args.process_index}.pth"
