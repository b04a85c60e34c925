"""Send probes with real sockets, watch every interface, and say what the wire showed.

All probes of a call go out at once, each with its own mark and source port, and the end is found
by quiet: nothing new for a while. That is the same as one after the other unless a probe changes
what a later one meets. In the kernel that state is: neighbors (a failed lookup lets every packet
that waits fail with it, as it would alone), conntrack entries (keyed by ports, which all differ),
learned redirects, and the limits on redirects and on the errors of unreachable routes, which
belong to the whole machine and can't be switched off here (five errors for one source, then one
a second: net/ipv4/route.c, ip_error). ``verify`` keeps below them by rounds.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ekslearn.kernel import frame
from ekslearn.kernel.balancer import Proxied
from ekslearn.kernel.capture import Captured, Ring
from ekslearn.kernel.frame import Packet
from ekslearn.kernel.space import entered

IP_RECVERR, TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 11, 19, 20, 21
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
SEND_QUEUE, REPAIR_OFF = 2, -1  # include/uapi/linux/in.h and tcp.h
EXTENDED = struct.Struct("=IBBBBII4x4s")  # sock_extended_err and its sockaddr_in (errqueue.h)
FROM_ICMP = 2  # SO_EE_ORIGIN_ICMP
ESTABLISHED = 1  # TCP_ESTABLISHED, include/net/tcp_states.h
CHUNK = 25  # probes sent between two readings of the rings
QUIET_S = 0.15  # silence that ends a round while a probe is unanswered; above 3 ARP timers
SETTLE_S = 0.01  # silence that ends it when all have an outcome
LIMIT_S = 20.0
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What to send: from which namespace and port (or ICMP id), to where.

    ``size`` is the whole IP packet in bytes, for ICMP and UDP; with it the packet must not be
    fragmented. None sends as little as there is to say. ``proxied`` is what a proxy on its way is
    to do (``balancer.Proxied``).
    """

    namespace: str
    protocol: str
    destination: str
    dport: int | None = None
    sport: int = 0
    ttl: int = 64
    size: int | None = None
    proxied: Proxied | None = None


@dataclass(slots=True)
class Seen:
    """What came of a probe: an outcome, the listener's line if one came, and its packets.

    ``outcome`` is "answered", "RST", "icmp TYPE/CODE from ADDRESS", "error ENAME" (the sending
    kernel refused), or "nothing". ``packets`` holds namespace, interface, direction, packet.
    """

    outcome: str = "nothing"
    answer: str = ""
    packets: list[tuple[str, str, str, Packet]] = field(default_factory=list)


class Round:
    """One call's worth of probes over one selector, which also serves the listeners."""

    def __init__(self, selector: selectors.BaseSelector, rings: list[Ring]) -> None:
        self._selector = selector
        self._rings = rings
        self._sockets: list[socket.socket] = []
        self._captured: list[Captured] = []
        self._open = 0  # probes without an outcome

    def run(self, probes: list[Probe], first_mark: int) -> list[Seen]:
        """Send all, wait for quiet, and sort what was captured. Raises ``OSError`` if frames
        were lost, since then nothing can be said."""
        seen = [Seen() for _ in probes]
        self._open = len(probes)
        try:
            for at, probe in enumerate(probes):
                self._start(probe, first_mark + at, seen[at])
                if at % CHUNK == CHUNK - 1:
                    self._turn(0)
            self._until_quiet()
        finally:
            for one in self._sockets:
                if one.fileno() in self._selector.get_map():
                    self._selector.unregister(one)
                one.close()
        if sum(ring.lost() for ring in self._rings):
            raise OSError(errno.ENOBUFS, "the capture lost frames")
        self._sort(probes, seen, first_mark)
        return seen

    def _turn(self, wait_s: float) -> bool:
        """Serve what is ready; True if a frame came."""
        for key, _ in self._selector.select(wait_s):
            key.data()
        before = len(self._captured)
        for ring in self._rings:
            self._captured.extend(ring.read())
        return len(self._captured) > before

    def _until_quiet(self) -> None:
        start = last = time.monotonic()
        while True:
            quiet = QUIET_S if self._open else SETTLE_S
            now = time.monotonic()
            if now - last >= quiet or now - start > LIMIT_S:
                return
            if self._turn(quiet - (now - last)):
                last = time.monotonic()

    def _start(self, probe: Probe, mark: int, seen: Seen) -> None:
        kind, number = {
            "icmp": (socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
            "udp": (socket.SOCK_DGRAM, 0),
            "tcp": (socket.SOCK_STREAM, 0),
        }[probe.protocol]
        with entered(probe.namespace):
            made = socket.socket(socket.AF_INET, kind, number)
        self._sockets.append(made)
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, probe.ttl)
        try:
            made.bind(("", probe.sport))
            if probe.protocol == "tcp":
                self._connect(made, probe, mark, seen)
                return
            data = frame.payload(mark)
            if probe.protocol == "icmp":  # the kernel fills in the id (our port) and the checksum
                data = struct.pack("!BBHHH", frame.ECHO, 0, 0, 0, 1) + data
            if probe.size:
                made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
                header = 20 if probe.protocol == "icmp" else 28
                data = data.ljust(probe.size - header, b".")
            made.connect((probe.destination, probe.dport or 0))
            self._watch(made, selectors.EVENT_READ, partial(self._datagram, made, seen))
            made.send(data)
        except OSError as error:
            self._failed(made, seen, error)

    def _connect(self, made: socket.socket, probe: Probe, mark: int, seen: Seen) -> None:
        tcp = socket.IPPROTO_TCP  # repair mode lets us choose the SYN's sequence number
        made.setsockopt(tcp, TCP_REPAIR, 1)
        made.setsockopt(tcp, TCP_REPAIR_QUEUE, SEND_QUEUE)
        made.setsockopt(tcp, TCP_QUEUE_SEQ, frame.sequence(mark))
        made.setsockopt(tcp, TCP_REPAIR, REPAIR_OFF)
        result = made.connect_ex((probe.destination, probe.dport or 0))
        if result not in (0, errno.EINPROGRESS):
            raise OSError(result, errno.errorcode.get(result, ""))
        self._watch(made, selectors.EVENT_WRITE, partial(self._connected, made, seen))

    def _watch(self, made: socket.socket, events: int, handler: Callable[[], None]) -> None:
        self._selector.register(made, events, handler)

    def _connected(self, made: socket.socket, seen: Seen) -> None:
        number = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        (state,) = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        # A word against the third packet comes after the answer to the first.
        if number and number != errno.ECONNRESET and state != ESTABLISHED:
            self._failed(made, seen, OSError(number, ""))
            return
        self._decide(seen, "answered")
        try:
            made.send(REQUEST)
        except OSError:
            self._selector.unregister(made)
            return
        self._open += 1  # until the listener's line is here
        self._selector.modify(made, selectors.EVENT_READ, partial(self._line, made, seen))

    def _line(self, made: socket.socket, seen: Seen) -> None:
        try:
            data = made.recv(4096)
        except OSError:
            data = b""
        seen.answer = data.rpartition(b"\r\n")[2].decode(errors="replace").strip()
        self._open -= 1
        self._selector.unregister(made)

    def _datagram(self, made: socket.socket, seen: Seen) -> None:
        try:
            data = made.recv(4096)
        except OSError as error:
            self._failed(made, seen, error)
            return
        self._decide(seen, "answered")
        if data[8:].startswith(frame.TAG):  # our own echo, behind its ICMP header
            return
        seen.answer = data.decode(errors="replace").partition("\n")[0]

    def _failed(self, made: socket.socket, seen: Seen, error: OSError) -> None:
        """Say why: an ICMP error on the socket's error queue, a RST, or the kernel here."""
        outcome = f"error {errno.errorcode.get(error.errno or 0, error.errno)}"
        if error.errno == errno.ECONNREFUSED and made.type == socket.SOCK_STREAM:
            outcome = "RST"
        try:
            _, extra, _, _ = made.recvmsg(512, 512, socket.MSG_ERRQUEUE)
        except OSError:
            extra = []
        for _, kind, data in extra:
            if kind == IP_RECVERR and len(data) >= EXTENDED.size:
                _, origin, type_, code, _, _, _, sender = EXTENDED.unpack_from(data)
                if origin == FROM_ICMP:
                    outcome = f"icmp {type_}/{code} from {socket.inet_ntoa(sender)}"
        if outcome.startswith("icmp 5/"):  # a redirect is advice; the answer may still come
            return
        self._decide(seen, outcome)
        if made.fileno() in self._selector.get_map():
            self._selector.unregister(made)

    def _decide(self, seen: Seen, outcome: str) -> None:
        if seen.outcome == "nothing":
            seen.outcome = outcome
            self._open -= 1

    def _sort(self, probes: list[Probe], seen: list[Seen], first_mark: int) -> None:
        """Give each packet to its probe, in the order of time.

        TCP asks again when no answer comes: what is seen again for the same SYN counts once.
        """
        once = set()
        for captured in sorted(self._captured, key=lambda one: one.time_ns):
            packet = frame.read(captured.frame)
            if packet is None or not first_mark <= packet.mark < first_mark + len(seen):
                continue
            at = packet.mark - first_mark
            sighting = (captured.namespace, captured.interface, captured.direction, packet)
            if probes[at].protocol == "tcp":
                if sighting in once:
                    continue
                once.add(sighting)
            seen[at].packets.append(sighting)
