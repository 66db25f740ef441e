"""TRL's AsyncGRPO with `ftkit serve` in vLLM's place: its own code posts each policy, draws rollouts, and gets the
tokens and log-probabilities of the policy that it names. Its attention by trees needs a GPU, so no step is trained."""

import multiprocessing
import threading
from types import SimpleNamespace

import pytest
import torch
from clients_servers import ftkit_serve

pytestmark = pytest.mark.slow
KEY = "of-the-trainer"  # which it gives as a part of the address, the one place for it
PROMPTS = ["Name a bird.", "What is 2 + 2?"]
NUM_GENERATIONS, MAX_STALENESS, NUM_SYNCS = 2, 1, 4


def length_reward(completions, **kwargs) -> list[float]:
    """A reward as TRL calls one."""
    return [float(len(completion[0]["content"])) for completion in completions]


@pytest.fixture(scope="module")
def policy():
    """The bundled base with a LoRA that nobody has trained, as AsyncGRPO makes it, and its tokenizer."""
    from peft import LoraConfig, get_peft_model
    from trl.chat_template_utils import qwen3_template

    from ftkit.data.templates.templates import install_template
    from ftkit.model.loading import load_model, load_tokenizer, local_model_folder

    torch.manual_seed(0)
    folder = local_model_folder("base")
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    tokenizer = load_tokenizer(folder)
    install_template(tokenizer, "alpaca")
    tokenizer.response_template = {**qwen3_template, "start_anchor": "### Response:\n"}  # TRL knows no Alpaca
    return get_peft_model(load_model(folder, dtype="float32"), config), tokenizer


@pytest.fixture(scope="module")
def trainer(policy, tmp_path_factory):
    """What AsyncGRPOTrainer's own methods look at, before a server that may read its output folder."""
    from accelerate import Accelerator
    from trl.experimental.async_grpo.vllm_client import VLLMClient

    out = tmp_path_factory.mktemp("out")
    flags = ["--model", "base", "--template", "alpaca", "--dtype", "float32", "--registry", str(out)]
    flags += ["--admin_key", KEY, "--allow_untrained"]  # the first policy is the base
    with ftkit_serve(out / "log", *flags, FTKIT_CACHE=str(out / "cache")) as (url, _):
        yield SimpleNamespace(
            model=policy[0], model_version=0, accelerator=Accelerator(cpu=True), rollout_worker=None,
            args=SimpleNamespace(max_staleness=MAX_STALENESS), vllm_client=VLLMClient(url.replace("//", f"//trl:{KEY}@"), 60),
            _lora_dir=str(out / ".vllm_lora"), _lora_name="trl-policy", _adapter_name="default",
        )  # fmt: skip


def sync(trainer) -> None:
    """One weight sync, by TRL's own code."""
    from trl.experimental.async_grpo.async_grpo_trainer import AsyncGRPOTrainer

    AsyncGRPOTrainer._sync_weight_lora(trainer, 0.0)


def step(model, seed: int) -> None:
    """As much of a training step as a server sees: the adapter is another one."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)


def rollouts(trainer, tokenizer, number: int) -> list:
    """Samples that TRL's own worker draws from the server and scores."""
    from datasets import Dataset
    from trl.experimental.async_grpo.async_rollout_worker import _AsyncRolloutLoop

    context = multiprocessing.get_context("spawn")
    buffer, events = context.Queue(), context.Queue()
    loop = _AsyncRolloutLoop(
        model_name="base", lora_name=trainer._lora_name, processing_class=tokenizer, eos_token_ids=[0],
        dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in PROMPTS]),
        reward_funcs=[length_reward], rollout_buffer=buffer, model_version_value=context.Value("i", trainer.model_version),
        heartbeat_value=context.Value("d", 0.0), failed_event=context.Event(), exception_info_queue=context.Queue(),
        metrics_queue=events, num_generations=NUM_GENERATIONS, max_inflight_tasks=4, max_tokens=8,
        vllm_server_url=trainer.vllm_client.server_url,
    )  # fmt: skip
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        return [buffer.get(timeout=120) for _ in range(number)]
    finally:
        loop._loop.call_soon_threadsafe(loop._stop_event.set)
        thread.join(timeout=30)


def log_probs(model, ids: list[int]) -> torch.Tensor:
    """Of each token after the first, by the policy here."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    return torch.log_softmax(logits[:-1], dim=-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def test_the_server_is_taken_for_one_that_takes_adapters(trainer):
    from trl.experimental.async_grpo.async_grpo_trainer import select_adapter_sync

    trainer.vllm_client.wait_for_server_ready()
    assert select_adapter_sync(trainer.vllm_client.get_server_info(), trainer.model, trainer.args)
    assert trainer.vllm_client.get_max_model_len() == 512
    assert trainer.vllm_client.get_dtype() == "torch.float32"


def test_every_policy_that_is_posted_is_the_one_that_answers(trainer, policy):
    model, tokenizer = policy
    for number in range(1, NUM_SYNCS + 1):
        if number > 1:
            step(model, number)
        sync(trainer)
        assert trainer.model_version == number
        for sample in rollouts(trainer, tokenizer, NUM_GENERATIONS * len(PROMPTS)):
            assert sample.model_version == number
            is_drawn = torch.tensor(sample.completion_mask[1:], dtype=torch.bool)
            own = log_probs(model.eval(), sample.input_ids.tolist())[is_drawn]
            theirs = torch.tensor(sample.old_log_probs[1:])[is_drawn]
            assert len(own) and (own - theirs).abs().max() <= 1e-4
    names = [one["id"] for one in get(trainer, "/v1/models")["data"]]
    kept = [f"trl-policy-v{number}" for number in range(NUM_SYNCS - MAX_STALENESS, NUM_SYNCS + 1)]
    assert names == ["base", *kept]  # older ones were unloaded


def get(trainer, path: str) -> dict:
    """What a route gives."""
    import requests

    return requests.get(trainer.vllm_client.server_url + path, timeout=30).json()
