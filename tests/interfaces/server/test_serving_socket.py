"""The listening socket: small answers go out at once."""

from __future__ import annotations

import socket
from contextlib import closing

from llamero.interfaces.server.serving import listen


def test_accepted_connections_do_not_wait_for_acknowledgements() -> None:
    with closing(listen("127.0.0.1", 0, patience=5)) as door, socket.create_connection(door.getsockname()) as client:
        accepted, _ = door.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert client.fileno() >= 0
