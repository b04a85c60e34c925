"""The three lists of what the project needs agree: pyproject.toml, environment.yml, the lock."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec
from ruamel.yaml import YAML

from tests.ground import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")

# Where conda-forge's name for a project differs from the name pip knows: the conda package
# `matplotlib` adds a desktop toolkit that nothing here uses.
CONDA_NAME = {"matplotlib": "matplotlib-base"}


def wanted(*extras: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for: the model's dependencies and those of some extras."""
    lines: list[str] = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    for line in lines:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:  # ekslearn[widgets,figures]
            for extra in requirement.extras:
                yield from map(Requirement, PROJECT["optional-dependencies"][extra])
        else:
            yield requirement


def by_name(requirements: Iterable[Requirement]) -> dict[str, SpecifierSet]:
    return {canonicalize_name(each.name): each.specifier for each in requirements}


def environment() -> tuple[dict[str, SpecifierSet], list[str]]:
    """The conda packages of environment.yml, each read strictly by conda's own grammar, and
    what it leaves to pip."""
    document = YAML(typ="safe", pure=True).load(ROOT / "environment.yml")
    assert document["channels"] == ["conda-forge", "nodefaults"]
    packages: dict[str, SpecifierSet] = {}
    for line in document["dependencies"]:
        if isinstance(line, str):
            spec = MatchSpec(line, strict=True)
            name = canonicalize_name(spec.name.normalized)
            assert name not in packages, f"{name} stands twice in environment.yml"
            packages[name] = SpecifierSet(str(spec.version or ""))
    (pip,) = (line["pip"] for line in document["dependencies"] if not isinstance(line, str))
    return packages, pip


def test_conda_installs_what_pip_installs() -> None:
    packages, pip = environment()
    assert pip == ["--editable ."], "everything but the project itself comes from conda-forge"
    assert packages.pop("pip") == SpecifierSet()
    python = packages.pop("python")
    expected = {CONDA_NAME.get(name, name): spec for name, spec in by_name(wanted("lab")).items()}
    assert packages == expected
    declared = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "3." in line}
    for minor in range(9, 16):
        version = Version(f"3.{minor}")
        assert (version in python) == (str(version) in declared), f"Python {version}"
        if version in python:
            assert version in SpecifierSet(PROJECT["requires-python"])


def test_the_lock_pins_what_pyproject_asks_for() -> None:
    pinned: dict[str, list[Version]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ ]+)", LOCK, re.MULTILINE):
        pinned.setdefault(canonicalize_name(name), []).append(Version(version))
    for name, specifier in by_name(wanted("lab", "test")).items():
        assert pinned.get(name), f"{name} isn't in requirements.lock: run `make lock`"
        outside = [str(version) for version in pinned[name] if version not in specifier]
        assert not outside, f"{name} {outside} is pinned, but {specifier} is asked for"


def test_every_pin_is_exact_and_hashed() -> None:
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE).strip())
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[\w.-]+==\S+", entry), f"not an exact version: {entry}"
        assert "--hash=sha256:" in entry, f"no hash: {entry}"


def test_the_lock_names_no_place() -> None:
    """No address of a registry, no folder of somebody's machine; only names and hashes."""
    assert not re.findall(r".*(?:[a-z]+://|--(?:extra-)?index|--find-links|\s@\s|/[a-z]+/).*", LOCK)
