"""Adapters loaded and unloaded while the server runs, by vLLM's routes and SageMaker's, with the admin key.

POST   /v1/load_lora_adapter    {"lora_name", "lora_path"[, "load_inplace"]}
POST   /v1/unload_lora_adapter  {"lora_name"}
POST   /adapters                {"name", "src"};  DELETE /adapters/{name}
GET    /v1/adapters             each name with its version's digest, its base and template, and requests in flight

A path is below the registry's folder; what is loaded under a name that is taken is a new version, and whoever asked
before is answered by the old one.
"""

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict

from ftkit.config.errors import UserError
from ftkit.inference.batching.request import UnknownModel
from ftkit.model.adapters.files import CONFIG_FILE
from ftkit.serving.guards import path_below
from ftkit.serving.refusals import Refused, error_body

INVALID, NOT_FOUND = "InvalidUserInput", "NotFoundError"  # vLLM's types of errors
MISSING = "LoRAAdapterNotFoundError"


class Load(BaseModel):
    """An adapter that is to answer under a name."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    is_3d_lora_weight: bool = False


class Unload(BaseModel):
    """A name that is to be forgotten."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    lora_name: str
    lora_int_id: int | None = None


class Registered(BaseModel):
    """SageMaker's form of the same."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    name: str
    src: str


def adapter_routes(batcher: Any, root: Path | None, *, may_do_nothing: bool = False) -> APIRouter:
    """The routes of a batcher's registry. root: the folder that adapters may be loaded from; None for none.
    may_do_nothing: also those that change nothing yet."""
    router, registry = APIRouter(), batcher.registry

    def load(asked: Load):
        name, path = asked.lora_name, asked.lora_path
        if not name or not path:
            return refusal(400, "Both 'lora_name' and 'lora_path' must be provided.", INVALID)
        if name in registry.names() and not asked.load_inplace:
            return refusal(
                400, f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
                "set 'load_inplace' to True.", INVALID,
            )  # fmt: skip
        if asked.is_3d_lora_weight:
            return refusal(400, "is_3d_lora_weight: adapters of experts in one tensor are not read", INVALID)
        folder = below(root, path)
        if not (folder / CONFIG_FILE).is_file():
            return refusal(404, f"Loading lora {name} failed: No adapter found for {path}", MISSING)
        try:
            registry.load(name, str(folder), in_place=asked.load_inplace, may_do_nothing=may_do_nothing)
        except UserError as error:
            return refusal(400, str(error), INVALID)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    def unload(name: str):
        try:
            registry.unload(name)
        except UnknownModel:
            return refusal(404, f"The lora adapter '{name}' cannot be found.", NOT_FOUND)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    @router.post("/v1/load_lora_adapter")
    async def load_adapter(asked: Load):
        return await asyncio.to_thread(load, asked)

    @router.post("/v1/unload_lora_adapter")
    async def unload_adapter(asked: Unload):
        if not asked.lora_name:
            return refusal(400, "'lora_name' needs to be provided to unload a LoRA adapter.", INVALID)
        return unload(asked.lora_name)

    @router.post("/adapters")
    async def register(asked: Registered):
        return await asyncio.to_thread(load, Load(lora_name=asked.name, lora_path=asked.src))

    @router.delete("/adapters/{name:path}")
    async def forget(name: str):
        return unload(name)

    @router.get("/v1/adapters")
    def adapters() -> dict:
        return {"object": "list", "data": [one for one in registry.described() if one["parent"] is not None]}

    return router


def refusal(status: int, message: str, kind: str) -> JSONResponse:
    """An error as vLLM writes it, with the status as its code."""
    return JSONResponse(error_body(message, kind, code=status), status, headers={"x-should-retry": "false"})


def below(root: Path | None, path: str) -> Path:
    """The folder that a path names. Raises Refused unless it lies below the registry's, links followed."""
    if root is None:
        raise Refused(
            403, "adapters are loaded from one folder only, and this server has none; start it with --registry"
        )
    return path_below(root, path)
