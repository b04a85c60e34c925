"""Dependencies point one way: who may import whom inside the package, and what from outside."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ground import PACKAGE, sources, unit

# Each part of the house and the parts it may know; `errors` is known to all.
KNOWS: dict[str, set[str]] = {
    "errors": set(),
    "paths": set(),
    "document": set(),
    "linux": set(),
    "tools": {"linux"},
    "iptables": {"linux", "tools"},
    "nft": {"linux", "tools", "iptables"},
    "vpc": {"document", "linux"},
    "fabric": {"linux", "vpc"},
    "elb": {"document", "linux", "vpc", "fabric"},
    "cni": {"linux", "vpc"},
    "ipamd": {"document", "vpc", "cni"},
    "kubernetes": {"document", "linux", "vpc"},
    "controller": {"document", "vpc", "elb", "kubernetes"},
    "machine": {"linux", "vpc", "cni", "ipamd", "kubernetes"},
}
KNOWS["control"] = {"cni", "document", "linux", "elb", "kubernetes", "controller", "machine"}
KNOWS["cluster"] = set(KNOWS) - {"errors", "document"}
KNOWS["trace"] = KNOWS["cluster"] - {"machine"} | {"cluster"}
MODEL = set(KNOWS)
KNOWS["ingress_table"] = {"cluster", "elb", "trace"}
KNOWS["scenario"] = MODEL
KNOWS["bundle"] = MODEL | {"scenario"}
KNOWS["kernel"] = MODEL | {"scenario"}
KNOWS["exercises"] = MODEL | {"scenario"}
KNOWS["draw"] = MODEL | {"scenario"}
KNOWS["widgets"] = MODEL | {"scenario", "draw", "ingress_table"}
KNOWS["cli"] = set(KNOWS)
KNOWS["__init__"] = {"scenario", "cluster", "trace"}
KNOWS["__main__"] = {"cli"}

# The three tiers: what each part may import from outside the standard library.
BASE = {"networkx", "ruamel"}
WIDGETS = {"ipywidgets", "anywidget", "traitlets", "IPython"}
FIGURES = {"matplotlib", "numpy"}
PAGES = {"nbformat", "nbconvert"}  # `make html`
OUTSIDE = dict.fromkeys(KNOWS, BASE) | {
    "draw": BASE | FIGURES | {"IPython"},
    "widgets": BASE | WIDGETS | FIGURES | PAGES,
}
READERS = {"trace", "ingress_table", "draw", "widgets", "exercises"}


@dataclass(frozen=True)
class Import:
    """One imported module, and how it was imported."""

    where: str
    module: str
    names: tuple[str, ...]
    late: bool  # inside a function, so paid for only by whoever calls it
    typing: bool  # under `if TYPE_CHECKING:`, so never run


def imports(path: Path) -> Iterator[Import]:
    """Every import in a file of the package, relative ones spelled out."""
    here = ("ekslearn", *path.relative_to(PACKAGE).with_suffix("").parts)

    def visit(node: ast.AST, late: bool, typing: bool) -> Iterator[Import]:
        place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(place, alias.name, (), late, typing)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            module = (node.module or "").split(".") if node.module else []
            full = [*here[: len(here) - node.level], *module] if node.level else module
            if full == ["ekslearn"]:  # `from ekslearn import draw`: the part is the name
                for name in names:
                    yield Import(place, f"ekslearn.{name}", (), late, typing)
            else:
                yield Import(place, ".".join(full), names, late, typing)
        for child in ast.iter_child_nodes(node):
            inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            types = typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
            yield from visit(child, inside, types)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False, False)


def inner(each: Import) -> str | None:
    """The part of the house an import names; `__init__` for what the package itself offers."""
    head, _, rest = each.module.partition(".")
    if head != "ekslearn":
        return None
    name = rest.partition(".")[0]
    is_part = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
    return name if name and is_part else "__init__"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_inside_the_house(path: Path) -> None:
    """A cycle is allowed in one place: Lab.trace, in a function, hands its work to `trace`."""
    part = unit(path)
    assert part in KNOWS, f"the design knows no part called {part}"
    for each in imports(path):
        other = inner(each)
        if other in (None, part, "errors", "paths"):
            continue
        if other == "__init__":
            assert part not in ("linux", "tools", "errors"), f"{each.where} asks the whole package"
        elif (part, other) == ("cluster", "trace"):
            assert each.late or each.typing, f"{each.where} imports trace at once"
        else:
            assert other in KNOWS[part], f"{each.where}: {part} must not know {other}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_from_outside(path: Path) -> None:
    part = unit(path)
    for each in imports(path):
        head = each.module.partition(".")[0]
        if head == "ekslearn" or head in sys.stdlib_module_names or each.typing:
            continue
        assert head in OUTSIDE[part], f"{each.where}: {part} must not import {head}"
        if head in PAGES or (head in FIGURES and part != "draw"):
            assert each.late, f"{each.where}: {head} is heavy, import it where it is used"


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if unit(path) in READERS],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_readers_use_public_names(path: Path) -> None:
    """`trace`, `draw`, `widgets` and `exercises` read the model as anybody else could."""
    for each in imports(path):
        if inner(each) not in (None, unit(path)):
            private = [name for name in each.names if name.startswith("_")]
            assert not private, f"{each.where} imports {private}"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            public = (
                node.attr.startswith("__") or own or node.attr.startswith(("_repr_", "_ipython"))
            )
            assert public, f"{path.name}:{node.lineno} reaches for the private {node.attr}"


def test_the_model_starts_in_a_blink() -> None:
    """Importing the whole model loads nothing from the other two tiers."""
    model = MODEL | {"scenario", "exercises", "kernel", "cli"}
    parts = {f"ekslearn.{unit(path)}" for path in sources() if unit(path) in model}
    heavy = sorted(WIDGETS | FIGURES | {"jupyterlab", "nbconvert"})
    program = (
        f"import sys, {', '.join(sorted(parts))}\nprint([h for h in {heavy} if h in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
