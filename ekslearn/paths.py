"""Where the project's files lie."""

from __future__ import annotations

from pathlib import Path

from .errors import EkslearnError


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
