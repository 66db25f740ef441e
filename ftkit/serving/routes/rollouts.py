"""What a trainer asks that draws its rollouts here, as it would of vLLM (TRL's AsyncGRPO).

GET  /server_info   vllm_config: the precision, and how adapters may be loaded
POST /pause, /resume

A trainer pauses a server before it posts an adapter. Here an answer keeps the version that it began with, so that
nothing has to stop, and nothing does.
"""

from typing import Any

from fastapi import APIRouter

from ftkit.model.limits import MAX_RANK

NO_LIMIT = 10**6  # adapters at once: memory is what limits them


def rollout_routes(batcher: Any, *, takes_adapters: bool) -> APIRouter:
    """The routes of one engine. takes_adapters: whether some can be loaded while it runs."""
    router = APIRouter()
    adapters = {"max_lora_rank": MAX_RANK, "max_loras": NO_LIMIT, "max_cpu_loras": NO_LIMIT}

    @router.get("/server_info")
    def server_info() -> dict:
        return {
            "vllm_config": {
                "model_config": {"dtype": str(batcher.model.dtype), "max_model_len": batcher.context},
                "lora_config": adapters if takes_adapters else None,
                "parallel_config": {"data_parallel_size": 1},
            }
        }

    @router.post("/pause")
    @router.post("/resume")
    def go_on() -> dict:
        return {"status": "running"}

    return router
