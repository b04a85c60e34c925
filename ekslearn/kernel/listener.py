"""The listeners of a lab: each answers with one line, its place and the client it saw.

In a private world they live in the same loop as the probes; after ``kernel up`` they are one
process for the whole lab: ``python -m ekslearn.kernel.listener``, with the list on its input.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from ekslearn.errors import EkslearnError
from ekslearn.kernel.frame import TAG
from ekslearn.kernel.space import entered

MARKED = len(TAG) + 8  # bytes of a probe that say whose it is
Handlers = selectors.BaseSelector


def parse(where: str) -> tuple[str, int, str]:
    """Take ``ADDRESS:PORT[/PROTOCOL]`` apart; without a protocol it is TCP.

    >>> parse("0.0.0.0:80/tcp")
    ('0.0.0.0', 80, 'tcp')
    """
    rest, _, protocol = where.partition("/")
    address, _, port = rest.rpartition(":")
    if protocol not in ("", "tcp", "udp") or not port.isdigit() or not address:
        raise EkslearnError(f"{where!r} isn't a listener; it would be ADDRESS:PORT/tcp or /udp")
    return address, int(port), protocol or "tcp"


class Listeners:
    """Sockets that listen in the namespaces of a lab, served by the caller's selector.

    Every key registered carries the function that serves it as its ``data``.
    """

    def __init__(self, selector: Handlers) -> None:
        self._selector = selector
        self._sockets: set[socket.socket] = set()

    def open(self, place: str, namespace: str, where: str) -> None:
        """Listen there; raise ``OSError`` as bind does."""
        address, port, protocol = parse(where)
        with entered(namespace):
            kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
            made = socket.socket(socket.AF_INET, kind)
        self._sockets.add(made)
        made.setblocking(False)
        if protocol == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if protocol == "tcp":
            made.listen(256)
            self._serve(made, lambda: self._accept(made, place))
        else:
            self._serve(made, lambda: self._datagram(made, place))

    def close(self) -> None:
        """Stop listening and drop every conversation."""
        for one in list(self._sockets):
            self._drop(one)

    def _serve(self, one: socket.socket, handler: Callable[[], None]) -> None:
        self._selector.register(one, selectors.EVENT_READ, handler)

    def _drop(self, one: socket.socket) -> None:
        with suppress(KeyError):
            self._selector.unregister(one)
        self._sockets.discard(one)
        one.close()

    def _accept(self, server: socket.socket, place: str) -> None:
        with suppress(OSError):  # the client may have gone again
            client, (address, port) = server.accept()
            client.setblocking(False)
            self._sockets.add(client)
            line = f"{place} {address} {port}\n".encode()
            self._serve(client, lambda: self._answer(client, line))

    def _answer(self, client: socket.socket, line: bytes) -> None:
        """Speak when spoken to: HTTP to a browser or curl, the bare line to anything else."""
        with suppress(OSError):
            asked = client.recv(4096)
            if asked.startswith((b"GET ", b"HEAD ")):
                head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(line)}\r\n\r\n"
                client.sendall(head.encode() + line)
            elif asked:
                client.sendall(line)
        self._drop(client)

    def _datagram(self, server: socket.socket, place: str) -> None:
        """Answer as a plain server does: one bound to 0.0.0.0 lets routing choose its address.

        A probe's mark goes back behind the line.
        """
        with suppress(OSError):
            data, (address, port) = server.recvfrom(2048)
            line = f"{place} {address} {port}\n".encode()
            mark = data[:MARKED] if data.startswith(TAG) else b""
            server.sendto(line + mark, (address, port))


def main() -> None:
    """Open the listeners named on standard input, say so with one line, serve until killed."""
    selector = selectors.DefaultSelector()
    listeners = Listeners(selector)
    for place, namespace, where in json.loads(sys.stdin.readline()):
        try:
            listeners.open(place, namespace, where)
        except OSError as error:
            print(f"{place}: {where}: {error.strerror}", flush=True)
            raise SystemExit(1) from None
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            key.data()


if __name__ == "__main__":
    main()
