"""Learn how packets travel in Amazon EKS, from a model that the real Linux kernel checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ekslearn.errors import EkslearnError, NotModelled
from ekslearn.paths import data_path

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

__version__ = "0.1.0"
__all__ = ["EkslearnError", "NotModelled", "__version__", "data_path", "load"]


def load(source: str | Path) -> Lab:
    """Read a scenario, a file or its text; raise ``EkslearnError`` if it can't be one."""
    from ekslearn.scenario import load as load_scenario  # here, so that `import ekslearn` is quick

    return load_scenario(source)
