"""Work inside another network namespace of this machine, from one Python process."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import re
import shlex
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

from ekslearn.kernel.wiring import base_sysctls

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
SIOCGIFFLAGS, SIOCETHTOOL, GLINK = 0x8913, 0x8946, 0x0A  # sockios.h, ethtool.h
IFF_UP, IFF_RUNNING = 0x1, 0x40  # if.h
FOLDER = Path("/run/netns")  # where `ip netns` keeps the names
TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": TOOLS, "LC_ALL": "C", "HOME": "/"}
TIMEOUT_S = 20.0
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread is in network namespace ``name`` while the block runs.

    Sockets made inside stay there for good; programs started inside run there; and
    ``/proc/sys/net`` shows that namespace's switches. Raises ``OSError``.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(FOLDER / name, os.O_RDONLY)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def run(name: str, words: list[str], text: str = "") -> tuple[str, str, int]:
    """Run a program in a namespace: its output, its errors, its status (127 if there is none)."""
    try:
        with entered(name):
            done = subprocess.run(
                words, env=ENVIRONMENT, input=text, capture_output=True, timeout=TIMEOUT_S,
                check=False, text=True, errors="replace",
            )  # fmt: skip
    except FileNotFoundError as error:
        return "", f"{error.filename}: not found\n", 127
    except subprocess.TimeoutExpired:
        return "", f"{words[0]}: no end after {TIMEOUT_S:.0f} s\n", 124
    return done.stdout, done.stderr, done.returncode


def spawn(name: str, words: Sequence[str], text: str = "") -> tuple[str, str, int]:
    """``run`` for a program that surely ends: three times as fast, since nothing is waited for."""
    with entered(name):
        return spawn_here(words, text)


def spawn_here(words: Sequence[str], text: str = "") -> tuple[str, str, int]:
    """``spawn`` in the namespace this thread is in; ``text`` is what the program reads."""
    with tempfile.TemporaryFile() as read, tempfile.TemporaryFile() as out, \
            tempfile.TemporaryFile() as err:  # fmt: skip
        read.write(text.encode())
        read.seek(0)
        try:
            child = os.posix_spawnp(words[0], list(words), ENVIRONMENT, file_actions=[
                (os.POSIX_SPAWN_DUP2, file.fileno(), at) for at, file in enumerate((read, out, err))
            ])  # fmt: skip
        except FileNotFoundError:
            return "", f"{words[0]}: not found\n", 127
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return texts[0], texts[1], os.waitstatus_to_exitcode(status)


def spawn_all(commands: Iterable[tuple[str, Sequence[str], str]]) -> list[tuple[str, str, int]]:
    """``spawn`` for one (name, words, text) after the other.

    What stands together in one namespace and is `ip`'s is one `ip -batch`: ten times as fast.
    """
    found = []
    for (name, batch), group in groupby(commands, key=lambda one: (one[0], _for_batch(one[1]))):
        left = list(group)
        while batch and len(left) > 1:
            text = "".join(shlex.join(words[1:]) + "\n" for _, words, _ in left)
            out, err, status = spawn(name, ["ip", "-batch", "-"], text)
            stopped = re.search(r"^Command failed -:(\d+)$", err, re.M)
            done = int(stopped[1]) - 1 if stopped else len(left)
            if out or (status and not stopped):
                raise OSError(errno.EIO, f"ip -batch in {name}: {out or err}")
            found += [("", "", 0)] * done
            left = left[done:]
            if left:  # what failed did nothing: alone it says how
                found.append(spawn(*left.pop(0)))
        found += [spawn(*one) for one in left]
    return found


def _for_batch(words: Sequence[str]) -> bool:
    return words[0] == "ip" and len(words) > 1 and words[1] != "netns" and words[1][0] != "-"


def write_sysctl(key: str, value: str) -> None:
    """Set one switch of the namespace this thread is in; interface names may hold dots."""
    Path("/proc/sys", *key.split(".")).write_text(value, encoding="ascii")


def add(name: str) -> None:
    """Make a namespace with the base switches and nothing in it but a ``lo`` that is down."""
    subprocess.run(["ip", "netns", "add", name], env=ENVIRONMENT, check=True, timeout=TIMEOUT_S)
    with entered(name):
        for key, value in base_sysctls():
            with suppress(FileNotFoundError):  # an older kernel, or one without IPv6
                write_sysctl(key, value)


def settle(names: Iterable[str]) -> None:
    """Wait until the kernel has told itself of every carrier that came or went.

    It does so up to a second late (net/core/link_watch.c); till then ``ip link`` says NO-CARRIER
    of a link that works, and routes keep or lack ``linkdown``. Asking for the link by ioctl makes
    a kernel since 6.8 do it at once. Raises ``OSError`` if two seconds aren't enough.
    """
    deadline = time.monotonic() + 2
    for name in names:
        with entered(name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            for _, interface in socket.if_nameindex():
                while not _settled(asking, interface.encode()):
                    if time.monotonic() > deadline:
                        raise OSError(errno.ETIMEDOUT, f"{interface} in {name} never settles")
                    time.sleep(0.01)


def _settled(asking: socket.socket, interface: bytes) -> bool:
    """Whether an interface that is up runs exactly if it has a carrier."""
    answer = array.array("I", [GLINK, 0])
    where, _ = answer.buffer_info()
    fcntl.ioctl(asking, SIOCETHTOOL, struct.pack("16sP16x", interface, where))
    flags_of = fcntl.ioctl(asking, SIOCGIFFLAGS, struct.pack("16sH22x", interface, 0))
    (flags,) = struct.unpack_from("H", flags_of, 16)
    return not flags & IFF_UP or bool(flags & IFF_RUNNING) == bool(answer[1])


def remove(name: str) -> None:
    """Delete a namespace and all that is in it."""
    subprocess.run(["ip", "netns", "del", name], env=ENVIRONMENT, check=True, timeout=TIMEOUT_S)
