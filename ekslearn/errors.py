"""The one family of exceptions that misuse of the package raises."""

from __future__ import annotations


class EkslearnError(Exception):
    """Bad input. The message is one sentence: what was wrong, where, and what would be right.

    A packet that gets lost isn't an error but a value: see ``Trace.verdict``.
    """


class NotModelled(EkslearnError):
    """Something real that this package leaves out, refused by its name (exit status 125)."""
