"""An installed wheel carries its data: a trace runs from it in an empty environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ground import ROOT, tracked

UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what git knows, by the pinned backend, without a network."""
    source = tmp_path_factory.mktemp("source")
    for path in tracked():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    out = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--offline", "--wheel", "--no-build-isolation", "--python", sys.executable,
        "--out-dir", out, source, cwd=source)  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_what_git_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = set()
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("ekslearn/"):
            expected.add(name)
        elif name.startswith(("data/", "notebooks/")):
            expected.add(f"ekslearn/{name}")
    assert held == expected


def test_a_trace_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Only the model's own dependencies are there: no JupyterLab, no matplotlib."""
    away = tmp_path / "away"
    away.mkdir()
    python = tmp_path / "venv" / "bin" / "python"
    run(UV, "venv", "--offline", "--python", sys.executable, tmp_path / "venv", cwd=away)
    install = [
        UV,
        "pip",
        "install",
        "--python",
        python,
        "--constraint",
        ROOT / "requirements.lock",
        wheel,
    ]
    # What `make` has just installed is in uv's cache; ask the network only if it isn't.
    if subprocess.run([*install, "--offline"], cwd=away, capture_output=True).returncode:
        run(*install, cwd=away)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    where = "import ekslearn; print(ekslearn.data_path('scenarios/two-rooms.yaml'))"
    scenario = Path(run(python, "-c", where, cwd=away, env=clean).strip())
    assert scenario.is_relative_to(tmp_path / "venv")
    command = python.with_name("ekslearn")
    trace = json.loads(
        run(command, "trace", scenario, "red", "blue:80/tcp", "--json", cwd=away, env=clean)
    )
    assert trace["verdict"] == "delivered"
    assert trace["request"], trace
