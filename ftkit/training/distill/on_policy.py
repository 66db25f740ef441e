"""Training on the student's own samples, held to the teacher by TRL's DistillationTrainer (arXiv:2306.13649)."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import TrainerCallback
from trl import DistillationTrainer

from ftkit.config.amounts import percent
from ftkit.inference.sampling import sample
from ftkit.model.fast.chunked_sum import chunked_sum
from ftkit.model.fast.loss_head import rows_at_a_time
from ftkit.training.distill.divergence import divergence
from ftkit.training.distill.offline import Halves
from ftkit.training.learning_receipt import MOST_CUT
from ftkit.training.run_trainer import RunMixin
from ftkit.training.sharing import is_sharded

# B batch, P prompt tokens, C tokens of an answer, N those of all answers, n of a chunk, D hidden, V vocabulary

STEP_SEEDS, PROCESS_SEEDS = 100_003, 1_000_003  # primes, so that no two samplings draw alike

logger = logging.getLogger(__name__)


class CutWatch(TrainerCallback):
    """Warns once of a student that does not end its answers."""

    is_warned = False

    def on_log(self, args, state, control, logs=None, **kwargs):
        share = (logs or {}).get("completions/clipped_ratio") or 0.0
        if share > MOST_CUT and not self.is_warned and state.is_world_process_zero:
            self.is_warned = True
            logger.warning(
                "at update %d %s of the answers reach --max_completion_length; raise it, or teach the student to end "
                "first (ftkit sft)", state.global_step, percent(share),
            )  # fmt: skip


class FTOnPolicyTrainer(RunMixin, DistillationTrainer):
    """DistillationTrainer on {"prompt": ids}, sampled by ftkit, so that a sample is of the student's own distribution.

    teacher: a frozen model. num_tokens: of the vocabulary that both know. end_ids: what ends an answer.
    """

    has_compact_heads = True  # TRL's trainer reads both heads in chunks itself

    def __init__(self, *args, teacher, num_tokens: int, end_ids: Sequence[int], **kwargs):
        super().__init__(*args, teacher_model=None, **kwargs)
        self.teacher_model = self.accelerator.prepare_model(teacher, evaluation_mode=True)
        self.num_tokens, self.eos_token_ids = num_tokens, list(end_ids)
        self.generation_config.eos_token_id = self.eos_token_ids
        self.add_callback(CutWatch())
        sizes = {model.config.get_text_config().vocab_size for model in (self.model, teacher)}
        self.halves = None
        if len(sizes) > 1:  # TRL compares heads of one size
            ids = self.train_dataset[0]["prompt"]
            self.halves = [Halves(model, ids) for model in (self.model, self.teacher_model)]

    def num_tokens_seen(self) -> int:
        """Tokens of prompts and answers."""
        return self.state.num_input_tokens_seen

    def _tokenize_prompts(self, prompts):
        return prompts, None, {}

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        if self.use_vllm or is_sharded(self):
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        device, step = self.accelerator.device, self.state.global_step + 1 if self.model.training else 0
        seed = self.args.seed + STEP_SEEDS * step + PROCESS_SEEDS * self.accelerator.process_index
        with self.accelerator.autocast():
            found = sample(
                self.accelerator.unwrap_model(self.model_wrapped), self._tokenizer, prompt_ids, num_samples=1,
                max_new_tokens=self.max_completion_length, end_ids=self.eos_token_ids, temperature=self.temperature,
                generator=torch.Generator(device).manual_seed(seed),
            )  # fmt: skip
        return [answers[0].ids for answers in found]

    def _get_last_hidden_state(self, unwrapped_model, input_ids, attention_mask, logits_to_keep, **inputs):
        with self.accelerator.autocast():  # which is entered by the forward of a whole model alone
            return super()._get_last_hidden_state(unwrapped_model, input_ids, attention_mask, logits_to_keep, **inputs)

    def _compute_loss(self, unwrapped_student, inputs, num_items_in_batch):
        if self.halves is None:
            return super()._compute_loss(unwrapped_student, inputs, num_items_in_batch)
        mask_BC = inputs["completion_mask"]
        ids_BT = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask_BT = torch.cat([inputs["prompt_mask"], mask_BC], dim=1)
        kept_BT = torch.cat([torch.zeros_like(inputs["prompt_mask"]), mask_BC], dim=1)[:, 1:].bool()
        kept_BT = torch.nn.functional.pad(kept_BT, (0, 1))  # a token is predicted at the place before it
        student, teacher = self.halves
        with self.accelerator.autocast():
            with torch.no_grad():
                teacher_ND = teacher.hidden(ids_BT, mask_BT, kept_BT)
            hidden_ND = student.hidden(ids_BT, mask_BT, kept_BT)

            def score(logits_nV: Tensor, rows: slice) -> Tensor:
                with torch.no_grad():
                    said_nV = teacher.head(teacher_ND[rows]).float()
                one, other = (
                    (logits[:, : self.num_tokens] / self.temperature).log_softmax(dim=-1)
                    for logits in (logits_nV, said_nV)
                )
                entropy = -(one.exp() * one).sum()
                return torch.stack([divergence(one, other, self.beta).sum(), entropy])

            loss, sums = chunked_sum(hidden_ND, student.head, score, chunk_size=rows_at_a_time(self.num_tokens))
        number = mask_BC.sum()
        return loss / (number.clamp(min=1) if num_items_in_batch is None else num_items_in_batch), sums[0], number
