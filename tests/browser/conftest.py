"""A browser, and a JupyterLab to look at with it; both are started once for all tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
WIDTHS = (1280, 800)
SETTINGS = {
    "apputils-extension/notification.jupyterlab-settings": (
        '{"fetchNews": "false", "checkForUpdates": false}'
    ),
    "apputils-extension/themes.jupyterlab-settings": '{"theme": "JupyterLab Light"}',
}


def chromium_path() -> str | None:
    """The browser to drive: what CHROMIUM names, or what is installed; None without one."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on this machine: install it, or name it in CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def shots() -> Path:
    """Where screenshots go, to be looked at: the folder SHOTS, or build/screenshots."""
    folder = Path(os.environ.get("SHOTS", "build/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    with serve(tmp_path_factory.mktemp("jupyter")) as served:
        yield served


@contextmanager
def serve(home: Path) -> Iterator[tuple[str, Path]]:
    """A JupyterLab of our own that keeps everything in ``home``: its address, and its folder."""
    root = home / "notebooks"
    root.mkdir()
    for name, text in SETTINGS.items():
        file = home / "settings/@jupyterlab" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "HOME": str(home),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                "--IdentityProvider.token=",
                f"--ServerApp.root_dir={root}",
            ],
            stdout=log,
            stderr=log,
            env=env,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(300):
                assert server.poll() is None, (home / "log").read_text()
                try:
                    urllib.request.urlopen(f"{address}/api", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.2)
            else:
                raise TimeoutError(f"JupyterLab didn't start: {(home / 'log').read_text()}")
            yield address, root
        finally:
            server.terminate()
            server.wait(20)


def write(path: Path, cells: Sequence[str]) -> None:
    """Write a notebook of these code cells."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel}), path)


Open = Callable[..., Any]


@pytest.fixture
def notebook(chromium: Any, jupyter: tuple[str, Path]) -> Iterator[Open]:
    """A function that opens a notebook of the given cells in JupyterLab, and runs it."""
    address, root = jupyter
    contexts = []

    def open_it(*cells: str, width: int = 1280, run: bool = True, name: str = "") -> Any:
        name = name or f"lesson-{width}-{time.monotonic_ns()}.ipynb"
        if cells:
            write(root / name, cells)
        context = chromium.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{address}/lab/tree/{name}?reset")
        page.wait_for_selector("#jp-main-statusbar >> text=Idle", timeout=60_000)
        if page.locator(".jp-FileBrowser").is_visible():
            page.keyboard.press("Control+b")
        if run:
            run_all(page)
        return page

    yield open_it
    for context in contexts:
        context.close()


def run_all(page: Any) -> None:
    """Run every cell, and wait until the kernel has nothing left to do."""
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells >> nth=0")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
        ".every((prompt) => /\\d/.test(prompt.textContent))",
        timeout=60_000,
    )
    page.wait_for_selector("#jp-main-statusbar >> text=Idle", timeout=60_000)


def shut_down(page: Any) -> None:
    """Shut the notebook's kernel down, and leave it so."""
    page.click("#jp-MainMenu >> text=Kernel")
    page.click(".lm-Menu >> text=Shut Down Kernel >> nth=0")
    page.wait_for_selector("#jp-main-statusbar >> text=No Kernel", timeout=20_000)


def serious(page: Any, scope: str) -> list[str]:
    """What axe-core calls serious or critical inside ``scope``."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is missing")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text())
    found = page.evaluate("(scope) => axe.run(scope)", scope)
    assert found["passes"], "axe looked at nothing"
    return [
        f"{each['id']}: {node['html'][:120]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
