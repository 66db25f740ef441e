"""The app: guards and errors around routes, and the server that runs it until Ctrl-C.

with listen("127.0.0.1", 8100) as listener:
    run(local_app([router], host="127.0.0.1"), listener)
"""

import importlib.util
import os
import socket
from collections.abc import Sequence

from ftkit.config.errors import UserError
from ftkit.serving.guards import Guard, error_body

SECONDS_TO_CLOSE = 2  # of open connections, after Ctrl-C
NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"  # the policy of an app without a page


def check_installed() -> None:
    """Raise UserError without the packages of the extra `serve`."""
    for name in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"the local server needs {name}; pip install 'ftkit[serve]'")


def local_app(routers: Sequence, *, host: str, policy: str = NO_CONTENT):
    """An app of some routers. host: that it listens at. policy: of its page."""
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_middleware(Guard, host=host, policy=policy)
    return app


async def http_error(request, error):
    """The answer to a route's refusal, and to an address that there is not."""
    from fastapi.responses import JSONResponse

    return JSONResponse(error_body(str(error.detail)), error.status_code, headers=error.headers)


async def invalid_request(request, error):
    """The answer to a body or a query that is not as a route takes it: the first mistake, with its place."""
    from fastapi.responses import JSONResponse

    first = error.errors()[0]
    place = ".".join(map(str, first["loc"][1:]))
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

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=SECONDS_TO_CLOSE,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run([listener])
    except KeyboardInterrupt:  # it has closed its connections, and passes the signal on
        pass
