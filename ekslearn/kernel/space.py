"""Work inside another network namespace of this machine, from one Python process."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ekslearn.kernel.wiring import base_sysctls

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
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


def run(name: str, words: list[str]) -> tuple[str, str, int]:
    """Run a program in a namespace: its output, its errors, its status (127 if there is none)."""
    try:
        with entered(name):
            done = subprocess.run(
                words, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=TIMEOUT_S, check=False, errors="replace",
            )  # fmt: skip
    except FileNotFoundError as error:
        return "", f"{error.filename}: not found\n", 127
    except subprocess.TimeoutExpired:
        return "", f"{words[0]}: no end after {TIMEOUT_S:.0f} s\n", 124
    return done.stdout, done.stderr, done.returncode


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


def remove(name: str) -> None:
    """Delete a namespace and all that is in it."""
    subprocess.run(["ip", "netns", "del", name], env=ENVIRONMENT, check=True, timeout=TIMEOUT_S)
