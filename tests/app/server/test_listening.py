"""The end of listening: what the kernel has opened and nobody has accepted is known."""

from __future__ import annotations

import socket
import time

from app.server.listening import connections_to_accept, refuse_new_connections


def counted(listening: socket.socket, wanted: int) -> bool:
    """Whether so many come to wait, soon."""
    deadline = time.monotonic() + 10
    while connections_to_accept([listening]) != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return connections_to_accept([listening]) == wanted


def test_connections_that_nobody_has_accepted_are_counted():
    """Up to the last one, which is what closing the socket must wait for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert connections_to_accept([listening]) == 0
        clients = [socket.create_connection(listening.getsockname()) for _ in range(3)]
        assert counted(listening, 3)
        accepted = [listening.accept()[0] for _ in range(2)]
        assert counted(listening, 1)
        accepted.append(listening.accept()[0])
        assert counted(listening, 0)
        for one in [*clients, *accepted]:
            one.close()


def test_after_the_refusal_no_more_come_to_wait():
    """And those that had come are still accepted."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname()) as client:
            assert counted(listening, 1)
            refuse_new_connections([listening])
            with socket.socket() as late:
                late.settimeout(0.3)
                try:
                    late.connect(listening.getsockname())
                except TimeoutError:
                    pass
                else:
                    raise AssertionError("a connection was opened")
            with listening.accept()[0] as accepted:
                client.sendall(b"here")
                assert accepted.recv(4) == b"here"
        assert connections_to_accept([listening]) == 0


def test_what_is_no_listening_socket_counts_nothing():
    """Such as a socket of another family."""
    with socket.socket(socket.AF_UNIX) as other:
        assert connections_to_accept([other]) == 0
