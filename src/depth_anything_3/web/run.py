"""A server on this machine for as long as the command runs."""

from __future__ import annotations

import ipaddress
import socket
import warnings
import webbrowser
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from depth_anything_3.errors import InputError
from depth_anything_3.web.guard import Guard

_BACKLOG = 64


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        InputError: the name is unknown, or the port is taken or not allowed.

    Warns:
        UserWarning: ``host`` can be reached from other machines, and there are no passwords.
    """
    if not 0 <= port <= 65535:
        raise InputError("--port", str(port), "0 (any free one) to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.create_server(address, family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise InputError(
            "--host, --port", f"{host}:{port} ({error})", "an address of this machine, a free port"
        ) from None
    if not ipaddress.ip_address(opened.getsockname()[0]).is_loopback:
        warnings.warn(f"{host} can be reached from other machines, and this server asks for no password", stacklevel=2)
    return opened


def run(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    open_browser: bool,
    on_ready: Callable[[str], None],
    path: str = "/",
) -> None:
    """Serve ``app`` behind a :class:`~depth_anything_3.web.guard.Guard` until the process is interrupted.

    Args:
        app: what to serve.
        host, port: see :func:`listen`.
        open_browser: also open the page.
        on_ready: called with the page's address once connections are accepted.
        path: of that page.
    """
    with listen(host, port) as opened:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{opened.getsockname()[1]}{path}"
        on_ready(address)
        if open_browser:
            webbrowser.open(address)
        config = uvicorn.Config(Guard(app, [host]), log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[opened])
