"""The command line: ``ekslearn`` and ``python -m ekslearn``.

Bad input is one line on standard error and status 2. What is heavy is imported where it is used.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import ekslearn
from ekslearn.errors import EkslearnError

if TYPE_CHECKING:
    from ekslearn.cluster import Lab
    from ekslearn.trace import Trace

BAD_INPUT, REFUSED, INTERRUPTED, BROKEN_PIPE = 2, 125, 130, 141
FIRST_LESSON = "00_start_here.ipynb"
LESSONS = "ekslearn-lessons"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint as an EkslearnError."""
        raise EkslearnError(f"{message} ({self.prog} --help says more)")


def parser() -> Parser:
    """The grammar of the command line."""
    top = Parser(prog="ekslearn", description=ekslearn.__doc__)
    top.add_argument("--version", action="version", version=f"ekslearn {ekslearn.__version__}")
    commands = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def add(verb: str, help: str, *names: str) -> argparse.ArgumentParser:
        one = commands.add_parser(verb, help=help, description=help)
        for name in names:
            one.add_argument(name.lower(), metavar=name)
        return one

    start = add("start", "open JupyterLab on the first lesson")
    start.add_argument("options", metavar="-- OPTION...", nargs="*", help="for JupyterLab")
    one = add("exec", "run a real command line in the model", "SCENARIO", "PLACE")
    one.add_argument(
        "command",
        metavar="-- COMMAND...",
        nargs="*",
        help="as typed on a real machine, for instance: ip route show",
    )
    one = add("trace", "follow a request and its reply", "SCENARIO", "SOURCE", "DESTINATION")
    one.add_argument("--json", action="store_true", help="print one object")
    one = add(
        "session",
        "read lines from standard input, all on one state: PLACE$ COMMAND...,"
        " trace SOURCE DESTINATION, sleep SECONDS",
        "SCENARIO",
    )
    one.add_argument("--json", action="store_true", help="print one object a line")
    one = add(
        "import",
        "read a real node's log bundle (eks-log-collector's folder or .tar.gz) into a scenario",
    )
    one.add_argument("what", choices=["node"], help="a node")
    one.add_argument("source", metavar="FILE_OR_FOLDER")
    one.add_argument("--output", metavar="FILE", help="write the scenario there, not on the screen")
    one.add_argument("--instance-type", default="", metavar="TYPE", help="which no bundle says")
    kernel = add("kernel", "the same wiring on this machine's real kernel")
    kernel.add_argument(
        "action",
        choices=["script", "places", "up", "down", "verify"],
        help="print the shell script; print PLACE NETNS a line; build; remove;"
        " compare model and kernel",
    )
    kernel.add_argument("scenario", metavar="SCENARIO")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    try:
        status = dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except EkslearnError as error:
        print(f"ekslearn: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; let nothing more be written to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def dispatch(argv: list[str]) -> int:
    """Do what ``argv`` asks; raise EkslearnError for bad input."""
    rest: list[str] | None = None
    if argv[:1] in (["exec"], ["start"]) and "--" in argv:
        argv, rest = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    args = parser().parse_args(argv)
    if args.verb == "start":
        return start(args.options + (rest or []))
    if args.verb == "exec" and (not rest or args.command):
        raise EkslearnError(
            "exec needs -- and a command behind it, as in: ekslearn exec one-node"
            " host -- ip route show"
        )
    if args.verb == "import":
        return take_in(args.source, args.output, args.instance_type)
    lab = ekslearn.load(args.scenario)
    for note in lab.notes:
        print(f"ekslearn: {note}", file=sys.stderr)
    if args.verb == "exec":
        return execute(lab, args.place, rest or [])
    if args.verb == "trace":
        trace = lab.trace(args.source, args.destination)
        print(json.dumps(trace.to_dict(), ensure_ascii=False) if args.json else describe(trace))
        return 0 if trace.verdict == "delivered" else 1
    if args.verb == "session":
        return session(lab, args.json)
    return real(lab, args.action)


def execute(lab: Lab, place: str, command: Sequence[str]) -> int:
    """Run one command in the model, print what it prints, return its status."""
    done = lab.run(place, command[0] if len(command) == 1 else shlex.join(command))
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.status


def take_in(source: str, output: str | None, kind: str) -> int:
    """Read a bundle; the scenario goes to ``output``, what the bundle lacks to standard error."""
    from ekslearn.bundle import read_bundle

    text, notes = read_bundle(source, kind=kind)
    for note in notes:
        print(f"ekslearn: {note}", file=sys.stderr)
    if output is None:
        sys.stdout.write(text)
        return 0
    try:
        with open(output, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise EkslearnError(
            f"{output}: can't be written: {(error.strerror or '').lower()}"
        ) from None
    return 0


def describe(trace: Trace) -> str:
    """A trace in words: a line for each decision, request before reply, then the verdict."""
    rows = [(step.leg, step.place, step.stage, step.decision, step.because) for step in trace.steps]
    wide = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    wide[3] = min(wide[3], 48)
    lines = []
    for leg in ("request", "reply"):
        own = [row for row in rows if row[0] == leg]
        lines += (
            [
                leg,
                *(
                    "  ".join(
                        [
                            "",
                            *(row[column].ljust(wide[column]) for column in (1, 2, 3)),
                            f"because: {row[4]}" if row[4] else "",
                        ]
                    ).rstrip()
                    for row in own
                ),
            ]
            if own
            else []
        )
    return "\n".join([*lines, f"{trace.verdict}: {trace.reason}"])


def session(lab: Lab, as_json: bool) -> int:
    """Run the lines of standard input on one state; a line that can't be read gets 125."""
    for line in lines_of(sys.stdin):
        if not line or line.startswith("#"):
            continue
        try:
            found, status, stdout, stderr = answer(lab, line)
        except EkslearnError as error:
            found, status, stdout = None, REFUSED, ""
            stderr = f"ekslearn: {' '.join(str(error).split())}\n"
        if as_json:
            print(
                json.dumps(
                    {"line": line, "status": status, "stdout": stdout, "stderr": stderr}
                    if found is None
                    else found.to_dict(),
                    ensure_ascii=False,
                )
            )
        else:
            sys.stdout.write(stdout)
            sys.stderr.write(stderr)
        sys.stdout.flush()
    return 0


def lines_of(stream: Iterable[str]) -> Iterable[str]:
    """The lines of ``stream`` without the blanks around them; bytes that aren't text as U+FFFD."""
    raw: Iterable[bytes] | None = getattr(stream, "buffer", None)
    for line in stream if raw is None else (one.decode(errors="replace") for one in raw):
        yield line.strip()


def answer(lab: Lab, line: str) -> tuple[Trace | None, int, str, str]:
    """What one session line gives: a trace if it was one, status, standard output and error."""
    words = line.split()
    match words:
        case ["trace", source, destination]:
            trace = lab.trace(source, destination)
            return trace, 0 if trace.verdict == "delivered" else 1, f"{describe(trace)}\n", ""
        case ["sleep", seconds]:
            lab.sleep(duration(seconds))
            return None, 0, "", ""
    if not words[0].endswith("$"):
        raise EkslearnError(
            f"{line[:60]!r} can't be read; a line is PLACE$ COMMAND..., trace"
            " SOURCE DESTINATION or sleep SECONDS"
        )
    done = lab.line(line)
    return None, done.status, done.stdout, done.stderr


def duration(text: str) -> float:
    """Seconds; raises EkslearnError unless ``text`` is a number of them, zero or more."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise EkslearnError(f"sleep takes a number of seconds, zero or more, not {text[:60]!r}")
    return seconds


def real(lab: Lab, action: str) -> int:
    """Do ``action`` with the same wiring on the real kernel."""
    from ekslearn import kernel

    if action == "script":
        print(kernel.script(lab), end="")
    elif action == "places":
        for place, netns in kernel.places(lab):
            print(place, netns)
    elif action == "verify":
        report = kernel.verify(lab)
        print(report.text.rstrip("\n"))
        return 0 if report.ok else 1
    else:
        (kernel.up if action == "up" else kernel.down)(lab)
    return 0


def start(options: Sequence[str]) -> int:
    """Replace this process by JupyterLab, open on the first lesson."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise EkslearnError('JupyterLab is missing; install it with: pip install "ekslearn[lab]"')
    command = [sys.executable, "-m", "jupyterlab", str(lessons() / FIRST_LESSON), *options]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in command:
        command.append("--allow-root")  # JupyterLab won't run as root without it
    sys.stdout.flush()
    os.execv(command[0], command)


def lessons() -> Path:
    """The folder of the lessons: the checkout's own, or a copy of the installed ones.

    Out of a wheel they are copied to ``ekslearn-lessons`` in the current folder, so that what a
    learner writes doesn't land among installed files; a lesson already there is kept as it is.
    """
    kept = ekslearn.data_path(FIRST_LESSON, folder="notebooks").parent
    if kept.parent != Path(ekslearn.__file__).parent:
        return kept
    mine = Path.cwd() / LESSONS
    try:
        for file in sorted(kept.rglob("*")):
            copy = mine / file.relative_to(kept)
            if file.is_file() and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
    except OSError as error:
        raise EkslearnError(
            f"{mine}: the lessons can't be copied there: {error.strerror}"
        ) from None
    return mine
