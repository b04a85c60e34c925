"""A routing decision: the model's, pytricia's, and the kernel's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from itertools import cycle
from random import Random
from typing import Any

from ekslearn.linux import Flow, Route
from ekslearn.linux.route import LOCAL, Routing
from tests.bench.figures import Row, in_turn, seconds
from tests.bench.inside import KernelBench
from tests.kernel.labs import ROOMS, modelled

LENGTHS = (8, 12, 16, 18, 20, 22, 23, 24, 24, 24, 26, 28, 30, 32)
SLICE = 1_000  # decisions measured in one go
OWN = ("127.0.0.0/8", "127.0.0.1/32", "10.1.1.1/32", "10.1.1.255/32", "127.255.255.255/32")


def networks(count: int, seed: int = 1) -> list[IPv4Network]:
    """Different unicast networks, their lengths spread as in a routing table."""
    random, found = Random(seed), dict[IPv4Network, None]()
    while len(found) < count:
        length = max(random.choice(LENGTHS), count.bit_length() + 1)
        bits = random.randrange(128 << 24, 224 << 24) >> (32 - length) << (32 - length)
        found[IPv4Network((bits, length))] = None
    return list(found)


def within(nets: list[IPv4Network], count: int, seed: int = 2) -> list[IPv4Address]:
    """Addresses that one of the networks holds, so that each decision finds a route."""
    random = Random(seed)
    chosen = [random.choice(nets) for _ in range(count)]
    return [net[random.randrange(net.num_addresses)] for net in chosen]


def routing(nets: list[IPv4Network]) -> Routing:
    """The three default rules, a namespace's own addresses in ``local``, ``nets`` in ``main``."""
    made = Routing()
    for text in OWN:
        made.add(Route(dst=IPv4Network(text), table=LOCAL, kind="local", scope=254))
    for net in nets:
        made.add(Route(dst=net))
    return made


def in_slices(act: Callable[[list[Any]], None], things: list[Any]) -> Callable[[], float]:
    """Seconds ``act`` takes for one thing, another slice of them each round.

    A slice takes about as long as a busy machine lets one process go on: a longer run would be
    interrupted where the other side's short one isn't.
    """
    slices = cycle([things[at : at + SLICE] for at in range(0, len(things), SLICE)])

    def measure() -> float:
        part = next(slices)
        return seconds(lambda: act(part)) / len(part)

    return measure


# Each loops and keeps nothing: what is kept would be measured as the garbage collector's work.


def deciding(made: Routing, flows: list[Flow]) -> Callable[[], float]:
    """Seconds for one decision about a flow that is there."""

    def decide(some: list[Flow]) -> None:
        for flow in some:
            made.lookup(flow)

    return in_slices(decide, flows)


def flowing(made: Routing, addresses: list[IPv4Address]) -> Callable[[], float]:
    """Seconds for one decision, its flow made from an address."""

    def decide(some: list[IPv4Address]) -> None:
        for address in some:
            made.lookup(Flow(address))

    return in_slices(decide, addresses)


def finding(tree: Any, keys: list[Any]) -> Callable[[], float]:
    """Seconds for one look-up in a tree of prefixes."""

    def find(some: list[Any]) -> None:
        for key in some:
            tree[key]

    return in_slices(find, keys)


def against_pytricia(
    count: int, repeats: int, tree: Any, *, explained: int = 200, decisions: int = 20_000
) -> list[Row]:
    """The model's decision over ``count`` routes, by ``tree``'s; both must agree."""
    nets = networks(count)
    made, addresses = routing(nets), within(nets, decisions)
    for net in nets:
        tree[str(net)] = str(net)
    flows, texts = [Flow(address) for address in addresses], [str(each) for each in addresses]
    for flow, text in zip(flows[:500], texts, strict=False):
        route = made.lookup(flow).route
        assert route and str(route.dst) == tree[text], (text, route)
    ready = in_turn(repeats, deciding(made, flows), finding(tree, texts))
    built = in_turn(repeats, flowing(made, addresses), finding(tree, addresses))
    asked = flows[: max(1, explained // count)]
    explain = lambda: [list(made.passed_over(made.lookup(flow))) for flow in asked]  # noqa: E731
    return [
        Row(what=f"decision, {count:,} routes", ours=ready[0],
            against="pytricia, from text", theirs=ready[1], aim="within 10 times"),
        Row(what=f"decision from an address, {count:,} routes", ours=built[0],
            against="pytricia, from the same address", theirs=built[1]),
        Row(what=f"decision explained, {count:,} routes",
            ours=[seconds(explain) / len(asked) for _ in range(min(repeats, 5))]),
    ]  # fmt: skip


def against_kernel(
    count: int, repeats: int, world: KernelBench, *, decisions: int = 2_000
) -> list[Row]:
    """The same decision by ``route get`` over netlink, in a namespace with the same routes."""
    nets = networks(count)
    made, addresses = routing(nets), within(nets, decisions)
    texts, flows = [str(each) for each in addresses], [Flow(address) for address in addresses]
    world.ask("fill", "red", [str(net) for net in nets])
    theirs = world.ask("matches", "red", texts[:500])
    for flow, prefix in zip(flows, theirs, strict=False):
        route = made.lookup(flow).route
        assert route and str(route.dst) == prefix, (flow, prefix)
    rows = []
    for name, method in (("raw netlink", "route_get"), ("pyroute2", "pyroute2_get")):
        few = texts if method == "route_get" else texts[: max(1, decisions // 10)]

        def get(method: str = method, few: list[str] = few) -> float:
            return float(world.ask(method, "red", few)) / len(few)

        ours, kernel = in_turn(repeats, flowing(made, addresses), get)
        rows.append(Row(what=f"decision from an address, {count:,} routes", ours=ours,
                        against=f"the kernel's, {name}", theirs=kernel, aim="faster"))  # fmt: skip
    return rows


def rows(repeats: int, counts: tuple[int, ...] = (10, 1_000, 100_000)) -> list[Row]:
    """Everything about routing decisions."""
    found = []
    try:
        from pytricia import PyTricia
    except ImportError:
        print("pytricia isn't here (make bench installs it): left out", file=sys.stderr)
    else:
        for count in counts:
            found += against_pytricia(count, repeats, PyTricia(32))
    with KernelBench() as world:
        world.build(modelled("bench", ROOMS, []))
        for count in counts:
            found += against_kernel(count, repeats, world)
    return found
