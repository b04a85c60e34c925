"""The exercises of lessons 10 and 11, four ways (see tests.exercises.ways)."""

from __future__ import annotations

from collections.abc import Mapping

from tests.exercises.ways import FourWaysAndFaults, Solver, Suite, Words, flipped, with_fault

# --- lesson 10 --------------------------------------------------------------------------------


def side_of(pod: str) -> tuple[str, str]:
    side, _, eni = pod.partition("-")
    return side, eni


def whose_address(words: Words) -> str:
    side, eni = side_of(words["source"])
    if words["target"] == "store":
        return words[f"{side}_{eni}"]
    if words["target"] == "internet":
        return words["public" if side == "public" else "nat"]
    return words[f"{side}_host"]


def by_the_second_eni(words: Words) -> str:
    kept = {"store"}
    if words["setting"] == "external":
        kept |= {"internet", "peer", "data-center"}
    elif words["setting"] == "exclude":
        kept.add("peer" if words["excluded"].startswith("172.") else "data-center")
    found = [x for x in "abcd" if words[f"from_{x}"].endswith("eth1") and words[f"to_{x}"] in kept]
    return " ".join(found) or "none"


CARRIES = {"store": 9001, "peer": 8500, "data-center": 8500, "internet": 1500}


def largest_ping(words: Words) -> str:
    return str(min(int(words["mtu"]), CARRIES[words["target"]]) - 28)


SNAT = (
    "-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m addrtype ! --dst-type LOCAL -j SNAT --to-source {}"
    " --random-fully"
)


def mend_the_way_out(words: Words) -> str:
    private = f"private-node$ iptables -t nat {SNAT.format(words['private_host'])}"
    nft = "private-node$ nft add rule ip aws-cni snat-mark"
    marks = [f"{nft} ip daddr {words[each]} return" for each in ("added", "vpc")]
    marks.append(f"{nft} ct mark set ct mark or 0x80".replace(" or ", " | "))
    return (
        "private-node$ iptables -t nat -I AWS-SNAT-CHAIN-0 1 -d {added} -j RETURN",
        f"public-node$ iptables -t nat {SNAT.format(words['public_host'])}",
        "\n".join(marks),
        "private-node$ ip rule add priority 1024 fwmark 0x80/0x80 lookup main",
        "public-node$ iptables -t nat -A POSTROUTING -j AWS-SNAT-CHAIN-0",
        f"private-node$ iptables -t nat -D AWS-SNAT-CHAIN-0 3\n{private}",
        "\n".join(["private-node$ nft flush chain ip aws-cni snat-mark", *marks]),
    )[int(words["fault"])].format_map(words)


# --- lesson 11 --------------------------------------------------------------------------------

OWN = {"app": "app", "app-far": "app", "db": "db", "plain": "node", "node-a": "node",
       "node-b": "node"}  # fmt: skip
ADMITS = {"db": {"app"}, "app": {"node"}, "node": {"node", "app"}}
NEAR = ("app", "db", "plain", "node-a")


def who_is_asked(words: Words) -> str:
    return "none" if (words["source"], words["to"]) == ("node-a", "plain") else OWN[words["to"]]


def passes_unasked(words: Words, source: str, to: str) -> bool:
    return words["mode"] == "standard" and source in NEAR and to in NEAR


def who_reaches_the_database(words: Words) -> str:
    found = [
        x for x in "abcd"
        if passes_unasked(words, words[f"from_{x}"], words[f"to_{x}"])
        or OWN[words[f"from_{x}"]] in ADMITS[OWN[words[f"to_{x}"]]]
    ]  # fmt: skip
    return " ".join(found) or "none"


def which_probes_pass(words: Words) -> str:
    found = []
    for x in "abcd":
        ends = words[f"from_{x}"], words[f"to_{x}"]
        demux = words["switch"] == "1" and words[f"kind_{x}"] != "a ping"
        own = ends in (("node-a", "app"), ("node-b", "app-far"))
        lost = (demux and own) or ends[1] == "db"
        found += [] if lost and words["mode"] == "strict" else [x]
    return " ".join(found) or "none"


def mend_the_branch(words: Words) -> str:
    return (
        "node-a$ sysctl -w net.ipv4.tcp_early_demux=0",
        "node-a$ ip rule add priority 10 iif vlan.eth.1 lookup 101",
        "node-a$ ip rule add priority 10 iif {veth} lookup 101",
        "node-a$ ip route add default via {gateway} dev vlan.eth.1 table 101",
        "node-a$ ip route add {app} dev {veth} scope link table 101",
        "node-a$ ip rule del priority 5",
    )[int(words["fault"])].format_map(words)


SOLVERS: dict[str, Solver] = {
    "security-groups-for-pods/who-is-asked": who_is_asked,
    "security-groups-for-pods/who-reaches-the-database": who_reaches_the_database,
    "security-groups-for-pods/which-probes-pass": which_probes_pass,
    "security-groups-for-pods/mend-the-branch": mend_the_branch,
    "out-to-the-world/whose-address": whose_address,
    "out-to-the-world/by-the-second-eni": by_the_second_eni,
    "out-to-the-world/largest-ping": largest_ping,
    "out-to-the-world/mend-the-way-out": mend_the_way_out,
}
LESSONS = ("out-to-the-world", "security-groups-for-pods")


def slips(name: str, words: Words) -> Mapping[str, str]:
    right = SOLVERS[name](words)
    match name.split("/")[1]:
        case "whose-address":
            side, eni = side_of(words["source"])
            within = words["target"] == "store"
            asked = {
                words[f"{side}_card"]: "one SNAT rule for each ENI",
                words[f"{side}_{eni}"]: "in a range that AWS-SNAT-CHAIN-0 exempts?",
                words[f"{side}_host"]: "a RETURN for each CIDR" if within else "carried all the",
                words["nat"]: "a RETURN for each CIDR" if within else "does that gateway",
                words["store"]: "a RETURN for each CIDR" if within else "who translates it",
            }
            asked.pop(right, None)
            return asked | {"300.1.2.3": "is no address"}
        case "by-the-second-eni":
            return {
                flipped(right, x): (
                    "a rule 1536 for this pod?"
                    if words[f"from_{x}"].endswith("eth0")
                    else "what does its packet carry?"
                    if x not in right.replace("none", "")
                    else "once the CNI has taken its rules away?"
                    if words["setting"] == "external"
                    else "does this packet get the mark?"
                )
                for x in "abcd"
            }
        case "largest-ping":
            best = int(right)
            return {
                str(best + 28): "That is a whole packet.",
                str(best + 20): "ping has two headers",
                str(best + 1): "One byte more than passes.",
                str(best + 100): "Which is narrower",
                str(best - 1): "Less than passes.",
                "many": "is no number of bytes",
            }
        case "who-is-asked":
            asked = {
                "none": "by which interface does the packet leave the node?",
                "node": "or has it one of its own?",
                "app": "A sender's group is asked on the way out.",
                "db": "A sender's group is asked on the way out.",
            }
            if right == "none":
                asked = dict.fromkeys(asked, "or only cables?")
            asked.pop(right)
            return asked | {"default": "is no group here"}
        case "who-reaches-the-database":
            return {
                flipped(right, x): (
                    "Which rule of its group admits it?"
                    if x not in right.replace("none", "")
                    else "does it pass an ENI?"
                    if passes_unasked(words, words[f"from_{x}"], words[f"to_{x}"])
                    else "does a rule name that group?"
                )
                for x in "abcd"
            }
        case "which-probes-pass":
            return {
                flipped(right, x): (
                    "by the node that asked, and is it TCP?"
                    if x in right.replace("none", "")
                    else "does a rule of it name the node's?"
                    if words[f"to_{x}"] == "db"
                    else "meet the socket that it is for?"
                )
                for x in "abcd"
            }
        case "mend-the-branch":
            around = "node-a$ ip rule add priority 1 from all lookup local\n"
            around += f"node-a$ ip rule add priority 9 iif lo to {words['app']} lookup 101"
            asked = {
                "internet$ ip route show": "Only the nodes are yours",
                f"node-a$ ip rule add priority 9 to {words['app']} lookup main": "way: past",
                "node-a$ iptables -t nat -A POSTROUTING -j MASQUERADE": "show?",
                "node-a$ ip route flush table 101": "takes the rows of the healthy pod",
                "node-a$ ip rule show": "which interface did the packet come in by?",
                "ip rule show": "doesn't say where to run",
            }
            return asked | ({around: "no group was asked"} if words["fault"] == "0" else {})
        case _:
            wide = "-t nat -A AWS-SNAT-CHAIN-0 -j SNAT --to-source"
            asked = {
                "store$ ip route show": "Only the two nodes are yours",
                "public-node$ iptables -t nat -A POSTROUTING -j MASQUERADE": "writes the address",
                "private-node$ ip rule del priority 1536": "Who checks that?",
                "private-node$ iptables -t nat -F AWS-SNAT-CHAIN-0": "takes the exempt ranges",
                "private-node$ ip rule show": "by which ENI does it leave",
                "ip rule show": "doesn't say where to run",
            }
            if words["fault"] == "1":  # the range of the VPC is no longer exempt
                flush = "public-node$ iptables -t nat -D AWS-SNAT-CHAIN-0 1\n"
                asked[f"{flush}public-node$ iptables {wide} {words['public_host']}"] = "From"
            return asked


CHANGES = {
    "out-to-the-world/whose-address": "private-node$ iptables -t nat -D AWS-SNAT-CHAIN-0 3",
    "out-to-the-world/by-the-second-eni": "private-node$ ip rule del priority 1536",
    "out-to-the-world/largest-ping": "private-node$ ip link set eth0 mtu 1200",
    "security-groups-for-pods/who-is-asked": "node-a$ ip rule del priority 10",
    "security-groups-for-pods/who-reaches-the-database": "node-a$ ip link set eth0 down",
    "security-groups-for-pods/which-probes-pass": "node-a$ ip link set eth0 down",
}


# --- all of them ------------------------------------------------------------------------------


class TestEdgesAndGroups(FourWaysAndFaults):
    suite = Suite(lessons=LESSONS, solvers=SOLVERS, slips=slips, changes=CHANGES)


def test_a_way_out_that_shows_the_wrong_address_is_not_mended() -> None:
    """Every packet is answered, but data-center sees pods: as if its range were excluded."""
    asked, words = with_fault("out-to-the-world/mend-the-way-out", "6")
    there = words["data_center"]
    verdict = asked.check(
        f"private-node$ iptables -t nat -I AWS-SNAT-CHAIN-0 1 -d {there} -j RETURN"
    )
    assert not verdict.right
    assert "Whose address should it see?" in verdict.message
