"""Listen on a port and answer requests until a signal comes."""

import asyncio
import errno
import logging
import os
import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from pytorch_intro.common.errors import UserError

GRACE = 20  # seconds for requests in progress when the server stops


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 is any free port.

    Raises:
        UserError: If this machine does not have the address, or the port is used or not permitted.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family)
        # asyncio turns off Nagle's algorithm, which costs 40 ms per answer, only for sockets of this protocol number.
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"host={host}: not an address; use 127.0.0.1 (this computer only) or 0.0.0.0") from error
    except OSError as error:
        problems = {
            errno.EADDRINUSE: f"port={port}: already in use; use another, as in port={port % 65535 + 1}",
            errno.EACCES: f"port={port}: not permitted; use one from 1024, as in port=8000",
        }
        other = f"host={host}: cannot listen there ({os.strerror(error.errno or 0)}); use host=127.0.0.1"
        raise UserError(problems.get(error.errno or 0, other)) from error


def url_of(listener: socket.socket) -> str:
    """Return the address for a browser on this computer."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class TimedProtocol(H11Protocol):
    """An HTTP connection that is closed if the headers of a request do not arrive in time.

    uvicorn limits only the time between an answer and the next byte.

    Attributes:
        header_seconds: Time from the connection, or from the first byte of a further request.
    """

    header_seconds: float
    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.update_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.stop_timer()

    def update_timer(self) -> None:
        """Start the timer, unless it runs already; stop it while a request is in progress."""
        if self.cycle and not self.cycle.response_complete:
            self.stop_timer()
        elif self.timer is None:
            self.timer = self.loop.call_later(self.header_seconds, self.transport.close)

    def stop_timer(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer = None


def serve(app: FastAPI, listener: socket.socket, header_seconds: float, grace: int = GRACE) -> None:
    """Answer requests until Ctrl-C or SIGTERM, then finish those in progress, and raise the signal again.

    Args:
        header_seconds: Time that a client may take to send the headers of a request.
        grace: Seconds for requests in progress; then they are canceled, which Service.admit answers.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it would warn of each malformed upload
    config = uvicorn.Config(
        app,
        loop="asyncio",  # these three: the same with whatever else is installed
        http=type("Protocol", (TimedProtocol,), {"header_seconds": header_seconds}),
        ws="none",
        lifespan="off",
        log_config=None,  # the command's
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace,
    )
    uvicorn.Server(config).run([listener])
