"""What can be asked.

GET /v1/models        the base and its adapters, each with its `parent` and the digest of its version
GET /v1/models/{id}   one of them
"""

from fastapi import APIRouter

from ftkit.inference.batching.request import UnknownModel

OWNER = "ftkit"


def model_routes(batcher, created: int) -> APIRouter:
    """The routes of a batcher's registry. created: when the server began, in seconds since 1970."""
    router = APIRouter()

    def card(found: dict) -> dict:
        """A model as clients read it; the fields after `owned_by` are vLLM's, and the digest ours."""
        return {
            "id": found["name"], "object": "model", "created": created, "owned_by": OWNER, "root": found["path"],
            "parent": found["parent"], "max_model_len": batcher.context, "digest": found["digest"],
        }  # fmt: skip

    @router.get("/v1/models")
    def models() -> dict:
        return {"object": "list", "data": [card(found) for found in batcher.registry.described()]}

    @router.get("/v1/models/{name:path}")
    def model(name: str) -> dict:
        for found in batcher.registry.described():
            if found["name"] == name:
                return card(found)
        raise UnknownModel(name)

    return router
