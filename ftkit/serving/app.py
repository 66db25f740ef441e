"""The app: guards and errors around routes, and the server that runs it until Ctrl-C.

with listen("127.0.0.1", 8100) as listener:
    run(local_app([router], host="127.0.0.1"), listener)
"""

import importlib.util
import os
import socket
from collections.abc import Sequence

from ftkit.config.errors import LimitError, UserError
from ftkit.inference.batching.request import QueueFull, UnknownModel
from ftkit.serving.guards import MAX_BODY_BYTES, Guard
from ftkit.serving.keys import Keys
from ftkit.serving.lifetime import Lifetime
from ftkit.serving.metrics import Measured, Metrics
from ftkit.serving.patience import patient_protocol
from ftkit.serving.refusals import Refused, error_body, kind_of

SECONDS_TO_CLOSE = 2  # of open connections, after Ctrl-C
SECONDS_BETWEEN = 30  # requests of one connection
MAX_CONNECTIONS = 512
MAX_HEADER_BYTES = 2**15
NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"  # the policy of an app without a page


def check_installed() -> None:
    """Raise UserError without the packages of the extra `serve`."""
    for name in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"the local server needs {name}; pip install 'ftkit[serve]'")


def local_app(
    routers: Sequence, *, host: str, policy: str = NO_CONTENT, keys: Keys | None = None, origins: Sequence[str] = (),
    seconds: float | None = None, metrics: Metrics | None = None, max_body_bytes: int = MAX_BODY_BYTES,
):  # fmt: skip
    """An app of some routers. host: that it listens at. policy: of its page. keys, origins: see Guard. seconds: for
    one answer, None for no end. metrics: what counts its requests."""
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid_request)
    for kind in (UserError, LimitError, UnknownModel, QueueFull, Refused):
        app.add_exception_handler(kind, refusal)
    app.add_exception_handler(Exception, failure)
    if seconds is not None:
        app.add_middleware(Lifetime, seconds=seconds)
    app.add_middleware(Guard, host=host, policy=policy, keys=keys, origins=origins, max_body_bytes=max_body_bytes)
    if metrics is not None:  # around the guards, so that what they refuse is counted
        app.add_middleware(Measured, metrics=metrics)
    return app


async def refusal(request, error):
    """The answer to what a client did wrong, by the kind of error that it made the engine or a route raise."""
    from fastapi.responses import JSONResponse

    status, code, headers = 400, None, {}
    message = str(error)
    if isinstance(error, UnknownModel):
        status, code, message = 404, "model_not_found", f"The model `{error.args[0]}` does not exist."
    elif isinstance(error, QueueFull):
        status, code, headers = 429, "queue_full", {"retry-after": "1"}
        message = f"too many requests wait ({message}); try again in a moment"
    elif isinstance(error, Refused):
        status, code, headers = error.status, error.code, error.headers
    return JSONResponse(error_body(message, kind_of(status), code=code), status, headers=headers)


async def failure(request, error):
    """The answer to a mistake of ours: nothing of it is shown, the log has it."""
    from fastapi.responses import JSONResponse

    return JSONResponse(error_body("the server failed; its log says why", "server_error"), 500)


async def http_error(request, error):
    """The answer to a route's refusal, and to an address that there is not."""
    from fastapi.responses import JSONResponse

    return JSONResponse(error_body(str(error.detail)), error.status_code, headers=error.headers)


async def invalid_request(request, error):
    """The answer to a body or a query that is not as a route takes it: the first mistake, with its place."""
    from fastapi.responses import JSONResponse

    first = error.errors()[0]
    place = ".".join(map(str, first["loc"][1:]))[:200]
    if first["type"] == "value_error" and not place:  # of a whole body: it begins with the field
        message = str(first["ctx"]["error"])
        place = message.partition(":")[0]
    else:
        message = f"{place}: {first['msg']}" if place else first["msg"]
    return JSONResponse(error_body(message, param=place or None), 400)


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for connections. Raises UserError, in one line, where there can be none."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if isinstance(error.errno, int) and error.errno > 0 else error.strerror
        raise UserError(f"--host {host} --port {port}: {reason}; choose another --port, or 0 for a free one") from error


def address_of(listener: socket.socket) -> str:
    """What a browser on this machine opens."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(app, listener: socket.socket) -> None:
    """Answer requests until Ctrl-C, or until the process is ended."""
    import uvicorn

    try:
        uvicorn.Server(server_config(app)).run([listener])
    except KeyboardInterrupt:  # it has closed its connections, and passes the signal on
        pass


def server_config(app):
    """How uvicorn runs an app: with limits on connections, headers and patience."""
    import uvicorn

    return uvicorn.Config(
        app, http=patient_protocol(), lifespan="off", log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_CLOSE, timeout_keep_alive=SECONDS_BETWEEN,
        limit_concurrency=MAX_CONNECTIONS, h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )  # fmt: skip
