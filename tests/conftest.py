"""On continuous integration nothing is skipped: there a skip is a failure that names its reason."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest


def on_ci() -> bool:
    """Whether this run must skip nothing (the environment variable CI is set)."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


class NothingSkipped:
    """Turns skipped tests, cells and modules into failures.

    A plugin object, because hooks of this file itself wouldn't see the notebooks beside tests/.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        report = yield
        return self._fail(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, Any, Any]:
        report = yield
        return self._fail(report)

    @staticmethod
    def _fail(report: Any) -> Any:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            report.outcome = "failed"
            report.longrepr = f"nothing is skipped on CI, but this was: {reason}"
        return report


def pytest_configure(config: pytest.Config) -> None:
    if on_ci():
        config.pluginmanager.register(NothingSkipped(), "nothing-skipped")
