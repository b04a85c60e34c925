"""The command line, as in its contract."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ekslearn
from ekslearn import cli

LOAD = "two-rooms"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def run(*argv: str, typed: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="ascii"))
        status = cli.main(argv)
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["jump"], "argument COMMAND: invalid choice: 'jump'"),
        (["trace", LOAD, "red"], "the following arguments are required: DESTINATION"),
        (["trace", LOAD, "red", "blue", "--jason"], "unrecognized arguments: --jason"),
        (["trace", "nowhere", "red", "blue"], "'nowhere': there is no such file"),
        (["trace", LOAD, "green", "blue"], "green"),
        (["trace", LOAD, "red", "blue:http"], "blue:http"),
        (["exec", LOAD, "red"], "exec needs -- and a command behind it"),
        (["exec", LOAD, "red", "--"], "exec needs -- and a command behind it"),
        (["exec", LOAD, "red", "ip", "--", "route"], "exec needs -- and a command behind it"),
        (["exec", LOAD, "green", "--", "ip", "route"], "green"),
        (["session", "nowhere"], "'nowhere': there is no such file"),
        (["kernel", "jump", LOAD], "invalid choice: 'jump'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, argv: list[str], said: str) -> None:
    status, out, err = run(*argv)
    assert (status, out) == (2, "")
    assert err.startswith("ekslearn: ")
    assert said in err
    assert err.count("\n") == 1


def test_exec_prints_and_exits_as_the_tool_does(run) -> None:
    done = ekslearn.load(LOAD).run("red", "ip route show")
    assert run("exec", LOAD, "red", "--", "ip", "route", "show") == (0, done.stdout, "")
    assert run("exec", LOAD, "red", "--", "ip route show") == (0, done.stdout, "")
    assert "10.1.1.0/24 dev veth0" in done.stdout
    status, out, err = run("exec", LOAD, "red", "--", "ip", "link", "show", "eth9")
    assert (status, out, err) == (1, "", 'Device "eth9" does not exist.\n')


def test_exec_refuses_what_is_not_modelled_with_125(run) -> None:
    status, out, err = run("exec", LOAD, "red", "--", "ip", "tunnel", "show")
    assert (status, out) == (125, "")
    assert err.startswith("ekslearn: ")
    assert err.count("\n") == 1


def test_trace_in_words(run) -> None:
    status, out, err = run("trace", LOAD, "red", "10.1.1.2:80/tcp")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "request"
    assert "reply" in lines
    assert lines[-1].startswith("delivered: ")
    assert any("because: 10.1.1.0/24 dev veth0" in line for line in lines)
    trace = ekslearn.load(LOAD).trace("red", "10.1.1.2:80/tcp")
    assert len(lines) == len(trace.steps) + 3  # the two headings and the verdict
    status, out, _ = run("trace", LOAD, "red", "10.1.1.2:81/tcp")
    assert status == 1
    assert out.splitlines()[-1].startswith("refused: ")


def test_trace_as_json_keeps_the_contract(run) -> None:
    status, out, err = run("trace", LOAD, "red", "blue:80/tcp", "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    found = json.loads(out)
    assert list(found) == ["scenario", "verdict", "reason", "request", "reply", "steps"]
    assert (found["scenario"], found["verdict"]) == ("two-rooms", "delivered")
    assert found["request"][0] == {
        "place": "red", "interface": "veth0", "direction": "out", "src": "10.1.1.1",
        "sport": 40000, "dst": "10.1.1.2", "dport": 80, "protocol": "tcp", "ttl": 64,
    }  # fmt: skip
    assert {"place", "stage", "decision", "because", "passed_over"} <= set(found["steps"][0])
    status, out, _ = run("trace", LOAD, "red", "10.1.1.9", "--json")
    assert status == 1
    assert json.loads(out)["verdict"] == "unreachable"


TYPED = """\

# a comment
red$ ip addr del 10.1.1.1/24 dev veth0
trace red blue
red$ ip addr add 10.1.1.1/24 dev veth0
red$ ip link show eth9
trace red 10.1.1.2:80/tcp
sleep 1.5
sleep -1
sleep soon
jump
green$ ip link
red$ ip tunnel
trace red
trace red blue
"""


def test_session_as_json(run) -> None:
    status, out, err = run("session", LOAD, "--json", typed=TYPED.encode())
    assert (status, err) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    assert [one.get("status", one.get("verdict")) for one in found] == [
        0, "unreachable", 0, 1, "delivered", 0, 125, 125, 125, 125, 125, 125, "delivered"
    ]  # fmt: skip
    assert found[0] == {
        "line": "red$ ip addr del 10.1.1.1/24 dev veth0", "status": 0, "stdout": "", "stderr": ""
    }  # fmt: skip
    assert found[3]["stderr"] == 'Device "eth9" does not exist.\n'
    for one in found[6:12]:
        assert list(one) == ["line", "status", "stdout", "stderr"]
        assert one["stderr"].startswith("ekslearn: ")
        assert one["stderr"].count("\n") == 1


def test_session_in_words(run) -> None:
    status, out, err = run("session", LOAD, typed=b"red$ ip route\n\xff\xfe\ntrace red blue")
    assert status == 0
    assert out.startswith("10.1.1.0/24 dev veth0")
    assert "\ndelivered: " in out
    assert err.startswith("ekslearn: ")
    assert err.count("\n") == 1


def test_sessions_share_nothing(run) -> None:
    run("session", LOAD, typed=b"red$ ip link set veth0 down\n")
    assert run("trace", LOAD, "red", "blue")[0] == 0


def test_kernel_script_and_places(run) -> None:
    status, out, err = run("kernel", "script", LOAD)
    assert (status, err) == (0, "")
    assert "10.1.1.1/24" in out
    status, out, err = run("kernel", "places", LOAD)
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["red", "blue"]
    assert all(re.fullmatch(r"\S+ \S+", line) for line in out.splitlines())


def test_kernel_verbs_call_the_kernel(run, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from ekslearn import kernel

    calls = []
    report = SimpleNamespace(ok=False, text="one differs\n")
    monkeypatch.setattr(kernel, "up", lambda lab: calls.append(("up", lab.name)))
    monkeypatch.setattr(kernel, "down", lambda lab: calls.append(("down", lab.name)))
    monkeypatch.setattr(kernel, "verify", lambda lab: report)
    assert run("kernel", "up", LOAD) == (0, "", "")
    assert run("kernel", "down", LOAD) == (0, "", "")
    assert calls == [("up", LOAD), ("down", LOAD)]
    assert run("kernel", "verify", LOAD) == (1, "one differs\n", "")
    report.ok = True
    assert run("kernel", "verify", LOAD)[0] == 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, argv: calls.append([path, *argv]))
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: object())
    return calls


def test_start_opens_the_first_lesson(run, started, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    lesson = tmp_path / "notebooks" / cli.FIRST_LESSON
    lesson.write_text("{}")
    monkeypatch.setattr(ekslearn, "data_path", lambda name, folder="data": tmp_path / folder / name)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    run("start")
    run("start", "--", "--no-browser")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    run("start")
    python = [sys.executable] * 2
    assert started == [
        [*python, "-m", "jupyterlab", str(lesson)],
        [*python, "-m", "jupyterlab", str(lesson), "--no-browser"],
        [*python, "-m", "jupyterlab", str(lesson), "--allow-root"],
    ]


def test_start_from_a_wheel_copies_the_lessons(run, started, monkeypatch, tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "ekslearn"
    kept = package / "notebooks"
    (kept / "pictures").mkdir(parents=True)
    (kept / cli.FIRST_LESSON).write_text("new")
    (kept / "01_next.ipynb").write_text("next")
    (kept / "pictures" / "map.svg").write_text("<svg/>")
    mine = tmp_path / "home" / cli.LESSONS
    mine.mkdir(parents=True)
    (mine / cli.FIRST_LESSON).write_text("what the learner wrote")
    monkeypatch.chdir(mine.parent)
    monkeypatch.setattr(ekslearn, "__file__", str(package / "__init__.py"))
    monkeypatch.setattr(ekslearn.paths, "__file__", str(package / "paths.py"))
    run("start")
    assert started[0][4] == str(mine / cli.FIRST_LESSON)
    assert (mine / cli.FIRST_LESSON).read_text() == "what the learner wrote"
    assert (mine / "01_next.ipynb").read_text() == "next"
    assert (mine / "pictures" / "map.svg").exists()


def test_start_says_what_to_install(run, monkeypatch) -> None:
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    status, out, err = run("start")
    assert (status, out) == (2, "")
    assert err == 'ekslearn: JupyterLab is missing; install it with: pip install "ekslearn[lab]"\n'


def process(*argv: str, **more) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ekslearn", *argv],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    )  # fmt: skip


def test_a_broken_pipe_is_quiet() -> None:
    child = process("session", LOAD)
    assert child.stdin and child.stdout and child.stderr
    child.stdout.close()
    try:
        child.stdin.write(b"red$ ip addr\n" * 2000)
        child.stdin.close()
    except BrokenPipeError:
        pass
    assert child.stderr.read() == b""
    assert child.wait(30) == 141


def test_ctrl_c_is_quiet() -> None:
    def heard() -> None:  # a shell's background jobs, these tests perhaps, are deaf to it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    child = process("session", LOAD, preexec_fn=heard)
    assert child.stdin and child.stdout and child.stderr
    child.stdin.write(b"red$ ip link show dev lo\n")
    child.stdin.flush()
    assert child.stdout.readline()  # it is running
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    assert child.stderr.read() == b""


def test_version_and_help(run) -> None:
    with pytest.raises(SystemExit) as left:
        run("--version")
    assert left.value.code == 0


def test_import_is_light() -> None:
    heavy = ["matplotlib", "numpy", "ipywidgets", "anywidget", "ruamel.yaml", "IPython", "networkx"]
    code = f"import sys, ekslearn, ekslearn.cli; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
