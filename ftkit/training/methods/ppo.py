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
from torch.utils.data import DataLoader
from transformers import Trainer

from ftkit.config.errors import UserError
from ftkit.inference.generation import evaluation_mode
from ftkit.inference.sampling import sample
from ftkit.model.value_head import PREFIX
from ftkit.training.ppo import formulas
from ftkit.training.ppo.rollout import (
    Order,
    Rollout,
    generator_of,
    padded_rollout,
    parts,
    permutation,
    policy_outputs,
    without_dropout,
)
from ftkit.training.run_trainer import RunMixin

# B answers of a rollout on this process, K positions in which answers lie


class PPOTrainer(RunMixin, Trainer):
    """Trainer whose batches are rollouts. A step is an update, so a rollout lasts num_ppo_epochs * num_mini_batches.

    prompts: {"prompt_ids", ...} each. score: (prompts, samples) to the scores, (B,) float, NaN for a missing one.
    reference: the starting policy. end_ids: tokens that end an answer. The model has its head as `model.value`.
    """

    def __init__(self, *args, reference, score: Callable, end_ids: list[int], **kwargs):
        super().__init__(*args, **kwargs)
        args = self.args
        self.reference = reference.to(args.device).eval()
        self.score, self.end_ids = score, end_ids
        self.updates_per_rollout = args.num_ppo_epochs * args.num_mini_batches
        self.minibatch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps
        size = self.minibatch_size * args.num_mini_batches * args.world_size
        shuffled = args.train_sampling_strategy != "sequential"
        self.order = Order(len(self.train_dataset), size, args.data_seed or args.seed, shuffled)
        if not self.order.per_pass:
            raise UserError(
                f"{len(self.train_dataset)} prompts are fewer than the {size} of a rollout; give more of them, or a "
                "smaller --per_device_train_batch_size or --num_mini_batches"
            )
        self.loss_is_scaled_for_ga = True  # the loss is a sum over the tokens of the whole update
        self.kl_coef, self.rollout = args.kl_coef, {}
        self._metrics = {"train": defaultdict(list)}  # since the last log line; kept in checkpoints
        self._total_train_tokens = 0

    def get_train_dataloader(self) -> DataLoader:
        """A place for each batch of a pass: what is trained on is sampled when it is due."""
        updates = self.order.per_pass * self.updates_per_rollout
        return DataLoader(range(updates * self.args.gradient_accumulation_steps), batch_size=1)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The batches of the next update and their number of tokens in all processes; of a new rollout where due."""
        for _ in range(num_batches):
            next(epoch_iterator)
        rollout, update = divmod(self.state.global_step, self.updates_per_rollout)
        if update == 0:
            self.rollout = self.new_rollout(rollout)
        epoch, place = divmod(update, self.args.num_mini_batches)
        own = self.args.process_index
        order = permutation(len(self.rollout["mask"]), self.order.seed, rollout, epoch, own)
        chosen = order[place * self.minibatch_size :][: self.minibatch_size]
        minibatch = {name: tensor[chosen] for name, tensor in self.rollout.items()}
        return list(parts(minibatch, self.args.per_device_train_batch_size)), self.total(minibatch["mask"].sum())

    def new_rollout(self, number: int) -> Rollout:
        """Answers to the next prompts, with what the policy, the reference and the value head say of each token."""
        args, own = self.args, self.args.process_index
        prompts = [self.train_dataset[place] for place in self.order.prompts(number, own, args.world_size)]
        prompts_ids = [prompt["prompt_ids"] for prompt in prompts]
        start = time.perf_counter()
        groups = sample(
            self.model, self.processing_class, prompts_ids, num_samples=1, max_new_tokens=args.max_completion_length,
            end_ids=self.end_ids, temperature=args.temperature,
            generator=generator_of(args.seed, number, own, device=args.device),
        )  # fmt: skip
        samples = [group[0] for group in groups]
        answers_ids = [one.ids for one in samples]
        self.note(sampled_tokens_per_second=sum(map(len, answers_ids)) / (time.perf_counter() - start))
        rollout = padded_rollout(prompts_ids, answers_ids, self.processing_class.pad_token_id, args.device)
        with evaluation_mode(self.model), self.accelerator.autocast():
            read = [
                (*policy_outputs(self.model, self.model, part, args.temperature),
                 policy_outputs(self.reference, self.reference, part, args.temperature)[0])
                for part in parts(rollout, args.per_device_train_batch_size)
            ]  # fmt: skip
        names = ("log_probs", "entropy", "values", "reference")
        rollout |= dict(zip(names, map(torch.cat, zip(*read, strict=True)), strict=True))
        self.weigh(rollout, self.score(prompts, samples), [not one.is_ended for one in samples])
        return rollout

    def weigh(self, rollout: Rollout, scores: Sequence[float], is_cut: Sequence[bool]) -> None:
        """Add advantages and returns to a rollout, and set the weight of the KL term for the next.

        scores: NaN of an answer that has none, which teaches nothing. is_cut: whether it lacks its end token.
        """
        args, device = self.args, self.args.device
        scores_B, is_cut_B = (torch.tensor(values, dtype=torch.float32, device=device) for values in (scores, is_cut))
        rollout["mask"] *= ~scores_B.isnan()[:, None]
        scores_B, mask_BK = scores_B.nan_to_num(), rollout["mask"]
        kl_BK = (rollout["log_probs"] - rollout.pop("reference")) * mask_BK
        ends_B = scores_B - (args.missing_eos_penalty or 0.0) * is_cut_B
        rewards_BK = formulas.token_rewards(ends_B, kl_BK, mask_BK, self.kl_coef)
        advantages_BK, returns_BK = formulas.advantages_and_returns(
            rewards_BK, rollout["values"], mask_BK, args.gamma, args.lam
        )
        rollout["returns"] = returns_BK
        rollout["advantages"] = (
            formulas.whitened(advantages_BK, mask_BK, self.total) if args.whiten_advantages else advantages_BK
        )
        is_known_B = mask_BK.any(dim=1)
        sums = [scores_B, rewards_BK.sum(1), kl_BK.sum(1), is_cut_B, mask_BK.sum(1)]
        sums = [(one * is_known_B).sum() for one in sums] + [(rollout.pop("entropy") * mask_BK).sum(), is_known_B.sum()]
        score, reward, kl, cut, length, entropy, count = self.total(torch.stack(sums).double()).tolist()
        if not count:
            raise UserError("no answer of a rollout has a reward, so there is nothing to learn from; see --rewards")
        means = {"score": score, "reward": reward, "kl_per_answer": kl}
        means |= {"completions/clipped_ratio": cut, "completions/mean_length": length}
        means = {name: value / count for name, value in means.items()}
        means |= {"kl": kl / length, "entropy": entropy / length}  # per token
        means["explained_variance"] = formulas.explained_variance(rollout["values"], returns_BK, mask_BK, self.total)
        self.note(**means, kl_coef=self.kl_coef)
        if args.kl_target:
            self.kl_coef = formulas.adapted_kl_coef(self.kl_coef, means["kl_per_answer"], args.kl_target)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The clipped losses of policy and values per token of the update; the sum over its batches is its loss."""
        args, mask_BK, base = self.args, inputs["mask"], self.accelerator.unwrap_model(model)
        without_dropout(model)
        with self.accelerator.autocast():
            log_probs_BK, _, values_BK = policy_outputs(model, base, inputs, args.temperature)
        losses = {}
        losses["policy_loss"], losses["clip_ratio"] = formulas.policy_loss(
            log_probs_BK, inputs["log_probs"], inputs["advantages"], mask_BK, args.cliprange
        )
        losses["value_loss"] = formulas.value_loss(
            values_BK, inputs["values"], inputs["returns"], mask_BK, args.cliprange_value
        )
        per_token = args.world_size / num_items_in_batch.clamp(min=1)  # gradients are averaged over processes
        batches = self.current_gradient_accumulation_steps
        self.note(**{name: value.detach() * per_token * batches for name, value in losses.items()})
        self._total_train_tokens += int(inputs["attention_mask"].sum()) * args.world_size
        return (losses["policy_loss"] + args.vf_coef * losses["value_loss"]) * per_token

    def total(self, sums):
        """Added up over processes."""
        return self.accelerator.reduce(sums, reduction="sum")

    def note(self, **values) -> None:
        """Keep measures for the next log line, which shows their means."""
        for name, value in values.items():
            self._metrics["train"][name].append(float(value))

    def log(self, logs, *args, **kwargs):
        """As Trainer.log, with what was noted since the last line."""
        if "loss" in logs:
            logs |= {name: sum(values) / len(values) for name, values in self._metrics["train"].items()}
            logs["num_tokens"] = self.num_tokens_seen()
            self._metrics["train"].clear()
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, *args, **kwargs):
        """As Trainer's; the linear value head, which starts at 0, has a learning rate of its own."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        if is_new:
            head = set(self.model.value.score.parameters())
            for group in list(optimizer.param_groups):
                moved = [one for one in group["params"] if one in head]
                group["params"] = [one for one in group["params"] if one not in head]
                if moved:
                    optimizer.add_param_group({**group, "params": moved, "lr": self.args.value_learning_rate})
        return optimizer

    def _save(self, output_dir=None, state_dict=None):
        state = self.model.state_dict() if state_dict is None else state_dict
        super()._save(output_dir, {name: one for name, one in state.items() if not name.startswith(PREFIX)})
        if self.args.should_save:
            self.model.value.save(output_dir or self.args.output_dir)

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        torch.save({"kl_coef": self.kl_coef, "rollout": self.rollout}, self.rollout_path(output_dir))

    def _load_from_checkpoint(self, checkpoint, *args, **kwargs):
        super()._load_from_checkpoint(checkpoint, *args, **kwargs)
        self.model.value.load(checkpoint)
        kept = torch.load(self.rollout_path(checkpoint), weights_only=True, map_location=self.args.device)
        self.kl_coef, self.rollout = kept["kl_coef"], kept["rollout"]

    def _issue_warnings_after_load(self, load_result):
        load_result.missing_keys[:] = [name for name in load_result.missing_keys if not name.startswith(PREFIX)]
        super()._issue_warnings_after_load(load_result)

    def rollout_path(self, folder) -> Path:
        """Where a checkpoint keeps what this process is learning from."""
        return Path(folder) / f"rollout_{self.args.process_index}.pth"
