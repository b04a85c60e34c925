"""The exercises of lessons 01 and 02, four ways (see tests.exercises.ways)."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from ekslearn.exercises import EXERCISES, exercise
from ekslearn.exercises.format import Variant
from tests.exercises.ways import LEARNERS, Change, FourWaysAndFaults, Solver, Suite, Words, words_of

# --- solvers: what somebody answers who has understood ----------------------------------------


def which_ports(words: Words) -> str:
    held = [("0.0.0.0", words["one"], "tcp"), ("127.0.0.1", words["two"], "tcp")]
    found = []
    for letter in "abcd":
        address, rest = words[letter].split(":")
        port, protocol = rest.split("/")
        clash = any(
            (port, protocol) == (other_port, other)
            and (address == other_address or "0.0.0.0" in (address, other_address))
            for other_address, other_port, other in held
        )
        found += [] if clash else [letter]
    return " ".join(found) or "none"


def what_curl_sees(words: Words) -> str:
    if words["source"] == "host" and words["target"] == "127.0.0.1":
        return "refused"
    return "delivered" if words["bound"] in ("0.0.0.0", words["target"]) else "refused"


def mend_the_loopback(words: Words) -> str:
    return f"{words['pod']}$ ip link set lo up\n{words['pod']}$ ip addr replace 127.0.0.1/8 dev lo"


def arriving_ttl(words: Words) -> str:
    direct = {("host", words["address_a"]), (words["b"], words["host"])}
    return "64" if (words["source"], words["target"]) in direct else "63"


def what_still_works(words: Words) -> str:
    a, b, fault = words["a"], words["b"], words["fault"]
    if "ip_forward" in fault:
        lost = {(a, b), (b, a)}
    elif fault.startswith((f"host$ ip route del {words['address_b']}", f"{b}$ ip addr del")):
        lost = {(a, b), (b, a), ("host", b)}
    else:
        lost = {(a, b), (b, a), ("host", a)}
    at = {words["address_a"]: a, words["address_b"]: b}
    found = [x for x in "abcd" if (words[f"from_{x}"], at[words[f"to_{x}"]]) not in lost]
    return " ".join(found) or "none"


def mend_the_node(words: Words) -> str:
    a, b = words["a"], words["b"]
    gateway = "169.254.1.1 lladdr {mac} dev eth0 nud permanent"
    return "\n".join([
        "host$ sysctl -w net.ipv4.ip_forward=1",
        f"host$ ip link set {words['veth_a']} up",
        f"host$ ip link set {words['veth_b']} up",
        f"host$ ip route replace {words['address_a']} dev {words['veth_a']} scope link",
        f"host$ ip route replace {words['address_b']} dev {words['veth_b']} scope link",
        f"{a}$ ip route replace 169.254.1.1 dev eth0 scope link",
        f"{a}$ ip route replace default via 169.254.1.1 dev eth0",
        f"{a}$ ip neigh replace {gateway.format(mac=words['host_mac_a'])}",
        f"{b}$ ip neigh replace {gateway.format(mac=words['host_mac_b'])}",
    ])  # fmt: skip


SOLVERS: dict[str, Solver] = {
    "containers-of-one-pod/which-interface": lambda words: "lo",
    "containers-of-one-pod/which-ports": which_ports,
    "containers-of-one-pod/what-curl-sees": what_curl_sees,
    "containers-of-one-pod/mend-the-loopback": mend_the_loopback,
    "pods-on-one-node/next-hop": lambda words: words["host_mac_a"],
    "pods-on-one-node/arriving-ttl": arriving_ttl,
    "pods-on-one-node/what-still-works": what_still_works,
    "pods-on-one-node/mend-the-node": mend_the_node,
}


LESSONS = ("containers-of-one-pod", "pods-on-one-node")


# --- slips: answer, and the question it must be asked ------------------------------------------


def slips(name: str, words: Words) -> dict[str, str]:
    match name.split("/")[1]:
        case "which-interface":
            return {"eth0": "who owns it?", words["veth"]: "any business outside it?"}
        case "next-hop":
            return {
                words["pod_mac_b"]: "one bridge. Is there one?",
                words["pod_mac_a"]: "who is to pick the frame up?",
                words["host_mac_b"]: "Which wire does the first frame travel",
                "169.254.1.1": "That is an IP address; it picks the next hop.",
                "169.254.1.1/32": "That is an IP address; it picks the next hop.",
                words["address_b"]: "That is an IP address; it picks the next hop.",
                "02:00:00:00:00:99": "Nothing on this wire has that address.",
            }
        case "arriving-ttl":
            right = int(arriving_ttl(words))
            low = "Does anybody here do that?" if right == 64 else "How many machines stand between"
            asked = {str(right - 1): low, "65": "a packet's life longer, or shorter?"}
            return asked | ({"64": "Is it a bridge, which passes frames"} if right < 64 else {})
        case "what-curl-sees":
            asked = {"dropped": "silence, or something?", "unreachable": "silence, or something?"}
            if what_curl_sees(words) == "delivered":
                return asked | {"refused": "Does a listener on"}
            foreign = words["source"] == "host" and words["target"] == "127.0.0.1"
            return asked | {
                "delivered": "Whose 127.0.0.1 does this curl mean?"
                if foreign
                else "which destination does the packet carry?"
            }
        case "which-ports":
            right = set(which_ports(words)) - set("none ")
            asked = {}
            for letter in "abcd":
                answer = " ".join(sorted(right ^ {letter})) or "none"
                what = words[letter]
                asked[answer] = f"About {what}: " + (
                    "is a port of UDP the same thing"
                    if what.endswith("udp")
                    else "whose are the ports"
                    if what == f"0.0.0.0:{words['one']}/tcp"
                    else "which addresses does 0.0.0.0 stand for"
                    if what.startswith(("0.0.0.0", "127."))
                    else "could the kernel tell"
                )
            return asked
        case "what-still-works":
            right = set(what_still_works(words)) - set("none ")
            asked = {}
            for letter in "abcd":
                answer = " ".join(sorted(right ^ {letter})) or "none"
                asked[answer] = f"About {letter}, "
            return asked
        case "mend-the-loopback":
            pod, veth = words["pod"], words["veth"]
            return {
                f"host$ ip netns del {pod}": "What is missing inside the one that is there?",
                f"{pod}$ ip addr flush dev lo": "something removed, or something put back?",
                f"{pod}$ ip link set eth0 down": "something removed, or something put back?",
                f"{pod}$ ip addr add 127.0.0.1/8 dev eth0": "do two containers of one pod talk?",
                f"host$ ip link set {veth} up": f"What does `ip addr show dev lo` in {pod} say",
                f"{pod}$ ip link set loo up": "fails, as it would on a real machine",
                "ip link set lo up": "doesn't say where to run",
                "nowhere$ ip link set lo up": "nowhere",
            }
        case _:
            a, veth = words["a"], words["veth_a"]
            return {
                "host$ ip route flush table main": "Which single row is wrong or missing?",
                f"host$ sysctl -w net.ipv4.conf.{veth}.proxy_arp=1": "asking anybody?",
                f"host$ ip addr add 169.254.1.1/32 dev {veth}": "when nobody owned it?",
                "host$ ip link add br0 type bridge": "Was there a bridge before the fault?",
                f"host$ ip link del {veth}": "Is the wire at fault",
                f"{a}$ ip link set eth0 down": "does this node need less, or more?",
                "host$ iptables -t nat -A POSTROUTING -j MASQUERADE": "Was any address changed",
                f"{a}$ ip link show": "what say of the last step",
            } | {f"{a}$ ip link show": "say of the last step"}


# --- all of them ------------------------------------------------------------------------------


def one_port_less(variant: Variant) -> None:
    """Somebody takes the first port that is free."""
    for letter in EXERCISES["containers-of-one-pod/which-ports"].truth(variant)[:1]:
        variant.lab.listen(variant.words["pod"], variant.words[letter])


def no_cables(variant: Variant) -> None:
    """Both pods lose their veths."""
    for veth in ("veth_a", "veth_b"):
        assert not variant.lab.line(f"host$ ip link set {variant.words[veth]} down").status


CHANGES: dict[str, Change] = {
    "containers-of-one-pod/which-interface": "{pod}$ ip link set lo down",
    "containers-of-one-pod/what-curl-sees": "{pod}$ ip link set lo down",
    "containers-of-one-pod/which-ports": one_port_less,
    "pods-on-one-node/next-hop": "{a}$ ip neigh del 169.254.1.1 dev eth0",
    "pods-on-one-node/arriving-ttl": "host$ sysctl -w net.ipv4.ip_forward=0",
    "pods-on-one-node/what-still-works": no_cables,
}


class TestLessons(FourWaysAndFaults):
    suite = Suite(
        lessons=LESSONS, solvers=SOLVERS, slips=slips, changes=CHANGES, asked=12,
        alike=("containers-of-one-pod/which-interface",),
    )  # fmt: skip


def test_every_exercise_of_every_lesson_is_tested() -> None:
    tested: list[str] = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        tested += getattr(import_module(f"tests.exercises.{path.stem}"), "SOLVERS", ())
    assert sorted(tested) == sorted(EXERCISES)


@pytest.mark.parametrize(
    ("name", "never"),
    [("pods-on-one-node/next-hop", "{host_mac_a}"), ("pods-on-one-node/arriving-ttl", "63")],
)
def test_nothing_said_before_the_right_answer_gives_it_away(name: str, never: str) -> None:
    for learner in LEARNERS[:12]:
        words, asked = words_of(name, learner), exercise(name, learner=learner)
        said = [asked.check(answer).message for answer in slips(name, words)] + list(asked.hints)
        said += [asked.text] if never != "63" else []
        assert not any(never.format_map(words) in one for one in said)


def test_the_two_directions_and_the_forwarding_switch_have_questions_of_their_own() -> None:
    name = "pods-on-one-node/what-still-works"
    seen = Counter()
    for learner in LEARNERS[:20]:
        words = words_of(name, learner)
        right = set(what_still_works(words)) - set("none ")
        for letter in "abcd":
            said = (
                EXERCISES[name]
                .check(" ".join(sorted(right ^ {letter})) or "none", learner=learner)
                .message
            )
            seen["reply"] += "Which way does the answer have to take?" in said
            seen["request"] += "does the packet meet the thing that was changed" in said
            seen["own"] += "does the node forward a packet that it sends itself?" in said
            seen["gloom"] += "ever use what was changed?" in said
    assert all(seen[one] for one in ("reply", "request", "own", "gloom")), seen
