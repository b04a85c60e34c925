"""The one family of exceptions that misuse of the package raises."""

from __future__ import annotations

import os


class EkslearnError(Exception):
    """Bad input. The message is one sentence: what was wrong, where, and what would be right.

    A packet that gets lost isn't an error but a value: see ``Trace.verdict``.
    """


class NotModelled(EkslearnError):
    """Something real that this package leaves out, refused by its name (exit status 125)."""


def kernel_refuses(so: object, errno: int, said: str = "") -> None:
    """Raise KernelError if it is so."""
    if so:
        raise KernelError(errno, said)


class KernelError(EkslearnError):
    """The kernel says no: an errno, and the sentence it adds to it, if any (extended ack).

    ``errno`` is the number (errno.EEXIST ...); ``said`` is empty where the kernel adds nothing.
    """

    def __init__(self, errno: int, said: str = "") -> None:
        super().__init__(said or os.strerror(errno))
        self.errno = errno
        self.said = said
