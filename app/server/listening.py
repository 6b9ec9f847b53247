"""The end of listening: nobody new is let in, and whoever the kernel has let in is answered."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# Where Linux's struct tcp_info has `tcpi_unacked`, which of a listening socket is the number of
# connections that the kernel has opened and nobody has accepted.
_UNACKED = slice(24, 28)
_SO_ATTACH_FILTER = 26  # Linux; the module `socket` doesn't name it

# A classic BPF program, which sees a segment from its TCP header on: what has SYN is dropped.
# Handshakes under way are completed, and connections that exist go on.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of flags
        (0x45, 0, 1, 0x02),  # is SYN among them?
        (0x06, 0, 0, 0),  # yes: drop
        (0x06, 0, 0, 0x40000),  # no: take all of it
    )
)


def refuse_new_connections(listening: Iterable[Any]) -> None:
    """Have the kernel open no more connections on these sockets, which go on listening.

    Closing a listening socket resets every connection that the kernel has opened on it and nobody
    has accepted yet. So first no more are opened, then those are accepted, and then it is closed.
    Clients that are kept out try again after a second and are refused then.

    Where the system has no such filters, nothing changes.

    Args:
        listening: sockets, or what has their file number.
    """
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    # struct sock_fprog: how many instructions, and where they are.
    option = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    for one in listening:
        with suppress(OSError), socket.socket(fileno=os.dup(one.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)


def connections_to_accept(listening: Iterable[Any]) -> int:
    """Connections that the kernel has opened on these sockets and nobody has accepted yet.

    Args:
        listening: sockets, or what has their file number.

    Returns:
        How many; 0 where the system doesn't say.
    """
    found = 0
    for one in listening:
        with suppress(OSError, AttributeError), socket.socket(fileno=os.dup(one.fileno())) as same:
            info = same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.stop)
            found += int.from_bytes(info[_UNACKED], sys.byteorder)
    return found
