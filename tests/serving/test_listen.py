"""The socket that the server listens on."""

import asyncio
import socket

import pytest

from pytorch_intro.serving.server import listen, url_of


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("localhost", "http://")],
)
def test_a_free_port_is_found_and_printed(host: str, expected: str) -> None:
    with listen(host, 0) as listener:
        url = url_of(listener)
        assert url.startswith(expected)
        assert int(url.rpartition(":")[2]) > 0


def test_small_answers_are_sent_at_once() -> None:
    """Otherwise each waits 40 ms for an acknowledgment, since head and body are sent one after the other."""

    async def has_no_delay() -> int:
        loop, accepted = asyncio.get_running_loop(), asyncio.Event()
        options: list[int] = []

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connection = transport.get_extra_info("socket")
                options.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()
                accepted.set()

        with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
            server = await loop.create_server(Protocol, sock=listener)
            await accepted.wait()
            server.close()
        return options[0]

    assert asyncio.run(has_no_delay())
