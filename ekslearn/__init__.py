"""Learn how packets travel in Amazon EKS, from a model that the real Linux kernel checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ekslearn.errors import EkslearnError, NotModelled

if TYPE_CHECKING:
    from ekslearn.cluster import Lab

__version__ = "0.1.0"
__all__ = ["EkslearnError", "NotModelled", "__version__", "data_path", "load"]


def data_path(name: str, *, folder: str = "data") -> Path:
    """Where a file or folder of the project's data lies, in a checkout or an installed wheel.

    A wheel carries ``data`` and ``notebooks`` inside the package; in a checkout they stand beside
    it. Raises ``EkslearnError`` if there is no such file.

    >>> data_path("scenarios").name
    'scenarios'
    """
    package = Path(__file__).parent
    for base in (package / folder, package.parent / folder):
        if base.is_dir() and (found := base / name).exists():
            return found
    raise EkslearnError(f"there is no {folder}/{name} in this installation of ekslearn")


def load(source: str | Path) -> Lab:
    """Read a scenario, a file or its text; raise ``EkslearnError`` if it can't be one."""
    from ekslearn.scenario import load as load_scenario  # here, so that `import ekslearn` is quick

    return load_scenario(source)
