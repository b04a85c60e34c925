"""Random command sequences, in the model and on the real kernel, compared to the letter.

``commands(seed)`` makes a sequence, ``compare(seed, real)`` plays it on both sides and returns
the first disagreement, ``shrink`` makes it as short as it gets. As a program:
``python -m tests.parity.text FIRST COUNT`` plays seeds and prints what disagrees.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from random import Random

from ekslearn.linux import NetworkNamespace, World
from ekslearn.tools import run
from tests.parity.real import LISTINGS, OTHER_SWITCHES, PLACES, SWITCHES, Real, Step, seen_after

REFUSED = 125  # the model's "isn't modelled": such a command is left out on both sides
MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b")
SHORT_MAC = re.compile(r"(?:[0-9a-f]{1,2}:){5}[0-9a-f]{1,2}")
OPTIONS = ("", "", "", "", "-o", "-br", "-4", "-4 -o")


@dataclass
class Disagreement:
    """The shortest known sequence after which the two say different things."""

    steps: list[Step]
    what: str
    model: str
    kernel: str
    option: str = ""

    def __str__(self) -> str:
        lines = [f"{place}$ {shlex.join(words)}" for place, words in self.steps]
        changes = unified_diff(
            self.model.splitlines(), self.kernel.splitlines(), "model", "kernel", lineterm="", n=0
        )
        return "\n  ".join([f"{self.what} [{self.option}]", *lines, *changes])


@dataclass
class Model:
    """The three namespaces in the model."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        for place in PLACES:
            NetworkNamespace(self.world, place)

    def run(self, step: Step) -> list[object]:
        """What a step prints."""
        done = run(self.world.namespaces[step[0]], list(step[1]))
        return [done.stdout, done.stderr, done.status]

    def listing(self, place: str, option: str) -> str:
        """All that can be listed in a place."""
        namespace = self.world.namespaces[place]
        words = option.split()
        text = "".join(run(namespace, ["ip", *words, *line.split()]).stdout for line in LISTINGS)
        lines = [f"{key} {namespace.sysctls['net.ipv4.' + key]}" for key in OTHER_SWITCHES]
        for interface in sorted(["all", "default", *namespace.links]):
            for key in SWITCHES:
                value = namespace.sysctls[f"net.ipv4.conf.{interface}.{key}"]
                lines.append(f"{interface}.{key} {value}")
        return text + "\n".join(lines) + "\n"


def settled(text: str, named: set[str]) -> str:
    """A listing with its neighbors sorted: the kernel lists them by a hash with a random seed.

    A MAC that isn't ``named`` was drawn, by either side's own dice.
    """
    text = MAC.sub(lambda found: found[0] if found[0] in named else "DRAWN", text)
    text = re.sub(r"(?m)^(\w+) \(id: \d+\)$", r"\1", text)
    if set(text.split()) == set(PLACES):  # `ip netns`: neither its order nor its numbers are ours
        return "".join(sorted(text.splitlines(keepends=True)))
    head, rule, tail = text.rpartition(":\t")
    lines = tail.splitlines(keepends=True)
    end = next((i for i, line in enumerate(lines) if line.startswith("ip_forward ")), len(lines))
    start = 1 if rule else 0
    return head + rule + "".join(lines[:start] + sorted(lines[start:end]) + lines[end:])


def named_macs(steps: Sequence[Step]) -> set[str]:
    """The MAC addresses in the steps, as they are printed."""
    words = [word.split(":") for _, words in steps for word in words if SHORT_MAC.fullmatch(word)]
    return {":".join(f"{int(part, 16):02x}" for part in parts) for parts in words}


def disagreement(steps: Sequence[Step], real: Real, option: str = "") -> Disagreement | None:
    """Play ``steps`` on both sides; the first thing they say differently."""
    macs = named_macs(steps) | {"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"}
    model, kept, expected = Model(), list[Step](), list[list[object]]()
    for step in steps:
        done = model.run(step)
        if done[2] != REFUSED:
            kept.append(step)
            expected.append(done)
    model = Model()
    found = real.play(kept, option)
    for number, (step, want, (*got, shown)) in enumerate(zip(kept, expected, found, strict=True)):
        model.run(step)
        for name, mine, theirs in zip(("stdout", "stderr", "status"), want, got, strict=True):
            if mine != theirs and (
                name != "stdout" or settled(str(mine), macs) != settled(theirs, macs)
            ):
                return Disagreement(
                    kept[: number + 1], name, f"{mine}\n", f"{theirs}\n", option
                )  # fmt: skip
        for place in seen_after(step, number == len(kept) - 1):
            mine = model.listing(place, option)
            if settled(mine, macs) != settled(shown[place], macs):
                return Disagreement(
                    kept[: number + 1], f"listings of {place}", mine, shown[place], option
                )
    return None


def shrink(found: Disagreement, real: Real) -> Disagreement:
    """Leave out steps, then words, as long as something still disagrees at the last step."""
    at, size = 0, max(1, len(found.steps) // 4)
    while size:
        while at < len(found.steps) - 1:
            fewer = found.steps[:at] + found.steps[min(at + size, len(found.steps) - 1) :]
            smaller = disagreement(fewer, real, found.option)
            if smaller and smaller.what == found.what:
                found = smaller
            else:
                at += size
        at, size = 0, size // 2
    return found


def confirmed(play: Callable[[], Disagreement | None]) -> Disagreement | None:
    """What ``play`` finds, and finds twice more; None as soon as it finds nothing.

    A busy kernel may tell itself of a carrier only after the next command: that is no finding.
    """
    found = None
    for _ in range(3):
        found = play()
        if found is None:
            break
    return found


def compare(seed: int, real: Real) -> Disagreement | None:
    """Play the sequence of ``seed``; a shrunk disagreement, or None."""
    option = Random(seed).choice(OPTIONS)
    found = confirmed(lambda: disagreement(commands(seed), real, option))
    return shrink(found, real) if found else None


# The generator


NAMES = ("v0", "v1", "v2", "v3", "eth0", "lo")
PREFIXES = (
    "10.0.0.0/24", "10.0.0.0/16", "10.0.0.0/8", "10.0.0.0/32", "10.0.0.128/25", "10.0.1.0/24",
    "10.0.0.1", "10.0.0.9/32", "default", "0.0.0.0/0", "0/0", "192.168.0.0/30", "127.0.0.0/8",
    "169.254.1.1", "10.1/16", "10.0.0.255", "224.0.0.0/4", "10.9.0.0/255.255.0.0",
)  # fmt: skip
ADDRESSES = (
    "10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.0.1/16", "10.0.1.1/32", "10.0.0.1",
    "10.0.1.1/24", "192.168.0.1/30", "192.168.0.2/30", "127.0.0.2/8", "169.254.1.1/32",
    "172.16.0.0/31", "172.16.0.1/31", "10.0.0.0/24", "10.1.1.1/8", "127.0.0.1/8", "10.0.0.255/24",
)  # fmt: skip
HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9", "10.0.1.1", "10.0.1.7", "192.168.0.2",
         "169.254.1.1", "10.0.0.255", "127.0.0.1", "8.8.8.8", "172.16.0.1", "10.0.0.0", "0.0.0.0",
         "255.255.255.255", "224.0.0.5")  # fmt: skip
TABLES = ("main", "local", "default", "100", "2", "300", "0x10", "254", "253", "all", "unspec")
SCOPES = ("global", "link", "host", "site", "nowhere", "10", "0", "universe", "255")
PROTOCOLS = ("static", "kernel", "boot", "dhcp", "bird", "42", "0", "redirect", "zebra", "ra")
METRICS = ("0", "10", "20", "100", "0x20", "4294967295")
KINDS = ("unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw")
MARKS = ("1", "0x1", "0x1/0x1", "0x80/0x80", "5/7", "0", "0xffffffff", "1/0", "0x10/0xff", "/1")
PRIORITIES = ("0", "1", "100", "100", "200", "32766", "32767", "40000", "0x10", "4294967295")
GARBAGE = ("foo", "", "10.0.0", "10.0.0.256", "10.0.0.0/33", "-1", "all", "dev", "via", "::1",
           "1.2.3.4.5", "fe80::1/64", "99999999999", "src", "10.0.0.1/24", "any", "scope", "to",
           "table", "0x", "12abc", "up", "name", "-4", "if3", "10.0.0.0/", "averyveryverylongname",
           "a/b", "help", "inet", "from", "not", "proto", "brd", "+", "lladdr", "7")  # fmt: skip
SWITCH_VALUES = ("0", "1", "2", "1", "0", "-1", "", "foo", "1 ", "0x1", "2147483648", "3", "1 2")


class Maker:
    """Makes one command after another from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.mac = 0

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def maybe(self, chance: float, *words: str) -> list[str]:
        return list(words) if self.random.random() < chance else []

    def name(self) -> str:
        return self.pick(*NAMES, *NAMES, "nosuch")

    def new_mac(self) -> str:
        self.mac += 1
        return f"02:00:00:00:00:{self.mac:02x}"

    def step(self) -> Step:
        """One command somewhere, good or bad."""
        makers = {
            self.add_link: 8, self.set_link: 18, self.show_link: 5, self.address: 22,
            self.show_address: 6, self.route: 28, self.show_route: 10, self.get_route: 8,
            self.rule: 12, self.show_rule: 4, self.neighbor: 9, self.show_neighbor: 4,
            self.switch: 7, self.other: 2,
        }  # fmt: skip
        words = self.random.choices(list(makers), list(makers.values()))[0]()
        if self.random.random() < 0.16:
            words = self.spoil(words)
        return self.pick("red", "red", "red", "blue", "green"), tuple(words)

    def spoil(self, words: list[str]) -> list[str]:
        """Make a slip of the kinds people make."""
        at = self.random.randrange(1, len(words)) if len(words) > 1 else 0
        word = words[at]
        slip = self.random.randrange(7)
        if slip == 0:
            return words[:at] + words[at + 1 :]
        if slip == 1:
            return words[: at + 1] + words[at:]
        if slip == 2:
            return [*words[:at], self.pick(*GARBAGE), *words[at + 1 :]]
        if slip == 3:
            return [*words[:at], self.pick(*GARBAGE), *words[at:]]
        if slip == 4:
            return words[: at + 1]
        if slip == 5:
            return [*words[:at], word[: self.random.randrange(len(word) + 1)], *words[at + 1 :]]
        return [*words[:at], word + self.pick("x", "0", "/", "s"), *words[at + 1 :]]

    def add_link(self) -> list[str]:
        words = ["ip", "link", "add", *self.maybe(0.15, "name"), self.name()]
        words += ["address", self.new_mac(), *self.maybe(0.1, "mtu", self.pick("1400", "9001"))]
        words += [*self.maybe(0.1, "netns", self.pick(*PLACES)), "type", "veth", "peer"]
        words += [*self.maybe(0.7, "name"), self.name(), "address", self.new_mac()]
        words += self.maybe(0.5, "netns", self.pick(*PLACES))
        return words + self.maybe(0.1, "mtu", self.pick("1400", "9001"))

    def set_link(self) -> list[str]:
        if self.random.random() < 0.12:
            return ["ip", "link", self.pick("del", "delete"), *self.maybe(0.3, "dev"), self.name()]
        words = ["ip", "link", "set", *self.maybe(0.5, "dev"), self.name()]
        change = self.random.random()
        if change < 0.6:
            return [*words, self.pick("up", "up", "up", "down")]
        if change < 0.7:
            return [*words, "mtu", self.pick("1400", "9001", "67", "68", "65535", "65536", "0")]
        if change < 0.8:
            return [*words, "name", self.pick(*NAMES), *self.maybe(0.2, "up")]
        if change < 0.9:
            return [*words, "netns", self.pick(*PLACES, "nosuch")]
        macs = self.new_mac(), "01:00:00:00:00:01", "02:0:0:0:0:9", "00:00:00:00:00:00"
        return [*words, "address", self.pick(*macs)]

    def show_link(self) -> list[str]:
        words = ["ip", *self.maybe(0.2, self.pick("-br", "-o", "-4", "-brief"))]
        words += [self.pick("link", "l", "li"), *self.maybe(0.7, self.pick("show", "list", "ls"))]
        words += self.maybe(0.6, *self.maybe(0.5, "dev"), self.name()) if len(words) > 2 else []
        more = self.pick("up", "type veth", "type vlan").split()
        return words + self.maybe(0.2 if len(words) > 3 else 0, *more)

    def address(self) -> list[str]:
        if self.random.random() < 0.08:
            words = ["ip", "addr", "flush", *self.maybe(0.8, "dev", self.name())]
            more = self.pick("to 10.0.0.0/24", "scope host", "up", "label v0", "scope global")
            return words + self.maybe(0.3, *more.split())
        how = self.pick("add", "add", "add", "add", "del", "del", "replace", "change", "a", "d")
        words = ["ip", self.pick("addr", "a", "address"), how]
        words += [*self.maybe(0.05, "local"), self.pick(*ADDRESSES)]
        words += self.maybe(
            0.2,
            self.pick("brd", "broadcast"),
            self.pick("+", "-", "10.0.0.255", "10.0.0.77", "255.255.255.255"),
        )
        name = self.name()
        words += self.maybe(0.95, "dev", name)
        words += self.maybe(0.1, "label", self.pick(name, f"{name}:1", "other"))
        words += self.maybe(0.15, "scope", self.pick(*SCOPES))
        return words + self.maybe(0.08, "noprefixroute")

    def show_address(self) -> list[str]:
        words = ["ip", *self.maybe(0.3, self.pick("-br", "-o", "-4", "-brief", "-oneline"))]
        words += [self.pick("addr", "a", "address"), self.pick("show", "list", "sh", "s")]
        words += self.maybe(0.6, *self.maybe(0.7, "dev"), self.name())
        words += self.maybe(0.3, *self.pick("to 10.0.0.0/24", "scope host", "up", "label v0",
                                            "scope global", "label v*", "to 10.0.0.1", "type veth",
                                            "scope all").split())  # fmt: skip
        return words

    def route(self) -> list[str]:
        if self.random.random() < 0.06:
            return ["ip", "route", "flush", *self.selector()]
        how = self.pick("add", "add", "add", "add", "del", "del", "replace", "change", "append",
                        "prepend")  # fmt: skip
        words = ["ip", self.pick("route", "r", "ro"), how, *self.maybe(0.25, self.pick(*KINDS))]
        words += [*self.maybe(0.03, "to"), self.pick(*PREFIXES)]
        words += self.maybe(0.4, "via", *self.maybe(0.1, "inet"), self.pick(*HOSTS))
        words += self.maybe(0.6, "dev", self.name())
        words += self.maybe(0.15, "src", self.pick(*HOSTS))
        words += self.maybe(0.2, self.pick("metric", "metric", "preference"), self.pick(*METRICS))
        words += self.maybe(0.2, "table", self.pick(*TABLES))
        words += self.maybe(0.12, self.pick("proto", "protocol"), self.pick(*PROTOCOLS))
        words += self.maybe(0.12, "scope", self.pick(*SCOPES))
        return words + self.maybe(0.1, "onlink")

    def selector(self) -> list[str]:
        words = self.maybe(0.4, "table", self.pick(*TABLES))
        words += self.maybe(
            0.25,
            self.pick("root", "match", "exact", "to", "to root", "to match"),
            self.pick(*PREFIXES),
        )
        words = " ".join(words).split()
        words += self.maybe(0.15, self.pick(*PREFIXES)) + self.maybe(0.25, "dev", self.name())
        words += self.maybe(0.12, "proto", self.pick(*PROTOCOLS))
        words += self.maybe(0.12, "scope", self.pick(*SCOPES))
        words += self.maybe(0.12, "type", self.pick(*KINDS))
        words += self.maybe(0.1, "via", self.pick(*HOSTS))
        return words + self.maybe(0.1, "src", self.pick(*HOSTS))

    def show_route(self) -> list[str]:
        show = self.pick("show", "list", "ls", "sh")
        return ["ip", *self.maybe(0.1, "-o"), self.pick("route", "r"), show, *self.selector()]

    def get_route(self) -> list[str]:
        words = ["ip", self.pick("route", "r"), self.pick("get", "g"), self.pick(*HOSTS, *PREFIXES)]
        words += self.maybe(0.3, "from", self.pick(*HOSTS))
        words += self.maybe(0.3, "iif", self.name()) + self.maybe(0.2, "oif", self.name())
        return words + self.maybe(0.2, "mark", self.pick("1", "0x80", "0", "foo", "16"))

    def rule(self) -> list[str]:
        rare = "flush" if self.random.random() < 0.1 else "add"
        how = self.pick("add", "add", "add", "del", "del", "a", rare)
        words = ["ip", self.pick("rule", "ru"), how, *self.maybe(0.1, "not"), *self.rule_selector()]
        words += self.maybe(
            0.6,
            self.pick("prio", "pref", "priority", "preference", "order"),
            self.pick(*PRIORITIES),
        )
        return words + self.maybe(0.7, self.pick("table", "lookup"), self.pick(*TABLES))

    def rule_selector(self) -> list[str]:
        words = self.maybe(0.4, "from", self.pick(*PREFIXES, "all"))
        words += self.maybe(0.3, "to", self.pick(*PREFIXES, "all"))
        words += self.maybe(0.3, "fwmark", self.pick(*MARKS))
        words += self.maybe(0.15, self.pick("iif", "dev"), self.name())
        return words + self.maybe(0.1, "oif", self.name())

    def show_rule(self) -> list[str]:
        words = ["ip", *self.maybe(0.1, "-o"), "rule", self.pick("show", "list", "ls")]
        words += self.maybe(0.3, *self.rule_selector())
        words += self.maybe(0.2, self.pick("prio", "pref"), self.pick(*PRIORITIES))
        return words + self.maybe(0.2, self.pick("table", "lookup"), self.pick(*TABLES))

    def neighbor(self) -> list[str]:
        if self.random.random() < 0.12:
            return ["ip", "neigh", "flush", *self.maybe(0.8, *self.neighbor_selector(), "all")]
        how = self.pick("add", "add", "replace", "change", "del", "a")
        words = ["ip", self.pick("neigh", "n", "neighbor", "neighbour"), how]
        words += [*self.maybe(0.05, "to"), self.pick(*HOSTS)]
        words += self.maybe(0.85, "lladdr", self.pick("02:00:00:00:00:77", "2:0:0:0:0:1", "foo"))
        words += self.maybe(0.95, "dev", self.name())
        return words + self.maybe(0.5, "nud", self.pick("permanent", "permanent", "noarp", "stale",
                                                        "stale", "none", "foo"))  # fmt: skip

    def neighbor_selector(self) -> list[str]:
        words = self.maybe(0.4, "dev", self.name())
        words += self.maybe(0.3, *self.maybe(0.5, "to"), self.pick(*PREFIXES))
        return words + self.maybe(0.3, "nud", self.pick("permanent", "noarp", "stale", "all", "x"))

    def show_neighbor(self) -> list[str]:
        show = self.pick("show", "list", "ls")
        return ["ip", self.pick("neigh", "n"), show, *self.neighbor_selector()]

    def switch(self) -> list[str]:
        owner = self.pick("all", "default", *NAMES, "nosuch")
        key = f"net.ipv4.conf.{owner}.{self.pick(*SWITCHES)}"
        if self.random.random() < 0.3:
            key = "net.ipv4.ip_forward"
        key = key.replace(".", "/") if self.random.random() < 0.1 else key
        flags = self.maybe(0.5, "-w") + self.maybe(0.2, self.pick("-q", "-n", "-e", "-N", "-b"))
        if self.random.random() < 0.3:
            return ["sysctl", *self.maybe(0.3, self.pick("-n", "-e", "-N", "-b")), key]
        return ["sysctl", *flags, f"{key}={self.pick(*SWITCH_VALUES)}"]

    def other(self) -> list[str]:
        return self.pick("ip", "ip foo", "ip -foo addr", "ip addr foo",
                         "ip route foo", "ip rule foo", "ip neigh foo", "ip link foo",
                         "ip netns foo",
                         "ip -n blue addr", "ip -n nosuch addr", "ip -n", "ip netns exec blue ip a",
                         "ip netns exec", "ip netns exec nosuch ip a", "ip netns exec blue",
                         "ip -br -o link", "ip a s", "ip r", "ip n", "ip ru", "ip l",
                         "ip route help",
                         "ip help", "ip addr help", "ip link help", "ip rule help", "ip neigh help",
                         "ip netns help").split()  # fmt: skip


def commands(seed: int, length: int = 40) -> list[Step]:
    """The sequence of ``seed``: some wiring that works, then anything."""
    maker = Maker(seed)
    steps: list[Step] = []
    for line in (
        f"ip link add v0 address {maker.new_mac()} type veth peer v1 address {maker.new_mac()}"
        " netns blue",
        f"ip link add v2 address {maker.new_mac()} type veth peer v3 address {maker.new_mac()}",
        "ip link set lo up", "ip link set v0 up", "ip link set v2 up", "ip link set v3 up",
        "ip addr add 10.0.0.1/24 dev v0", "ip addr add 192.168.0.1/30 dev v2",
    ):  # fmt: skip
        if maker.random.random() < 0.8:
            steps.append(("red", tuple(line.split())))
    steps += [("blue", ("ip", "link", "set", "v1", "up"))] * (maker.random.random() < 0.8)
    return steps + [maker.step() for _ in range(length)]


def main() -> None:
    """Play seeds FIRST, FIRST + 1, … and print each disagreement."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    stop = int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000
    bad = 0
    started = time.monotonic()
    with Real() as real:
        for seed in range(first, first + count):
            found = compare(seed, real)
            if found:
                bad += 1
                print(f"=== seed {seed}: {found}", flush=True)
                if bad >= stop:
                    break
    spent = time.monotonic() - started
    total = sum(len(commands(seed)) for seed in range(first, first + count))
    print(f"{total} commands, {bad} disagreements, {spent:.1f} s")


if __name__ == "__main__":
    main()
