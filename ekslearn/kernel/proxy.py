"""The processes of Application and Classic Load Balancers on the real kernel.

A proxy accepts, waits for the request, and opens a connection of its own to the target that the
model chose for that probe. This second one bears the mark of its probe, one hop further: ``frame``.
"""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ekslearn.kernel import frame
from ekslearn.kernel.balancer import Proxied
from ekslearn.kernel.space import entered

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21  # include/uapi/linux/tcp.h
RECV_QUEUE, SEND_QUEUE, REPAIR_OFF = 1, 2, -1
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


class Proxies:
    """The processes of Application and Classic Load Balancers, served by the caller's selector.

    ``wanted`` says of each probe, by its mark, what the model's proxy did with it.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._sockets: set[socket.socket] = set()
        self.wanted: dict[int, Proxied] = {}

    def open(self, namespace: str, address: str, port: int) -> None:
        """Listen on a balancer's address; raise ``OSError`` as bind does."""
        with entered(namespace):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(256)
        self._serve(made, selectors.EVENT_READ, partial(self._accept, made, namespace))

    def close(self) -> None:
        """Stop listening and drop every connection."""
        for one in list(self._sockets):
            self._drop(one)

    def _serve(self, one: socket.socket, events: int, handler: Callable[[], None]) -> None:
        one.setblocking(False)
        self._drop(one, close=False)
        self._sockets.add(one)
        self._selector.register(one, events, handler)

    def _drop(self, one: socket.socket, *, close: bool = True) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(one)
        self._sockets.discard(one)
        if close:
            one.close()

    def _accept(self, server: socket.socket, namespace: str) -> None:
        with suppress(OSError):  # the client may have gone again
            client, _ = server.accept()
            handler = partial(self._asked, client, namespace)
            self._serve(client, selectors.EVENT_READ, handler)

    def _asked(self, client: socket.socket, namespace: str) -> None:
        """The client has spoken: open a connection for it, from the address it came to."""
        with suppress(OSError):
            number = _repaired(client, RECV_QUEUE)
            if not client.recv(4096):
                self._drop(client)
                return
            target, port, sport, status = self.wanted[frame.mark_of(number)]
            if not port:
                self._say(client, status)
                return
            with entered(namespace):
                made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            made.bind((client.getsockname()[0], sport))
            _repaired(made, SEND_QUEUE, frame.sequence(frame.mark_of(number), 1))
            self._selector.unregister(client)  # it waits for the target
            handler = partial(self._connected, made, client, status)
            self._serve(made, selectors.EVENT_WRITE, handler)
            made.connect_ex((target, port))

    def _connected(self, made: socket.socket, client: socket.socket, status: str) -> None:
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(made)
            self._say(client, status)
            return
        made.send(REQUEST)
        self._serve(made, selectors.EVENT_READ, partial(self._answered, made, client))

    def _answered(self, made: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            client.sendall(made.recv(4096))
        self._drop(made)
        self._drop(client)

    def _say(self, client: socket.socket, status: str) -> None:
        with suppress(OSError):
            if status:
                client.sendall(f"HTTP/1.0 {status}\r\n\r\n{status}\n".encode())
        self._drop(client)


def _repaired(one: socket.socket, queue: int, number: int | None = None) -> int:
    """Read a socket's sequence number, or set it before it connects."""
    tcp = socket.IPPROTO_TCP
    one.setsockopt(tcp, TCP_REPAIR, 1)
    one.setsockopt(tcp, TCP_REPAIR_QUEUE, queue)
    if number is not None:
        one.setsockopt(tcp, TCP_QUEUE_SEQ, number)
    found = one.getsockopt(tcp, TCP_QUEUE_SEQ, 4)
    one.setsockopt(tcp, TCP_REPAIR, REPAIR_OFF)
    return int(struct.unpack("=I", found)[0])
