"""The exercises of lessons 06 and 09, four ways (see tests.exercises.ways)."""

from __future__ import annotations

from collections.abc import Mapping

from ekslearn.exercises.format import Variant, cluster_of
from tests.exercises.ways import Change, FourWaysAndFaults, Solver, Suite, Words, flipped

# --- lesson 09 --------------------------------------------------------------------------------

HERE = ("a", "d", "node-a")  # who is on node-a


def which_interface(words: Words) -> str:
    if words["to"] in HERE:
        return "none"
    return "eth1" if words["from"] == "d" else "eth0"


def to_the_router(words: Words) -> str:
    found = [
        x for x in "abcd"
        if words[f"to_{x}"] == "far" or (words[f"from_{x}"], words[f"to_{x}"]) == ("d", "bastion")
    ]  # fmt: skip
    return " ".join(found) or "none"


def what_still_works(words: Words) -> str:
    line, found = words["line"], []
    for x in "abcd":
        way = words[f"from_{x}"], words[f"to_{x}"]
        second = "d" in way and way != ("d", "a")  # needs rule 1536, table 2 and eth1
        if "1536" in line or "table 2" in line or "eth1 down" in line:
            lost = second
        elif line == "ip route del default":
            lost = way in (("a", "far"), ("far", "a"))
        else:
            lost = "a" in way and "route del" in line
        found += [] if lost else [x]
    return " ".join(found) or "none"


def mend_the_node(words: Words) -> str:
    table = (
        "node-a$ ip route replace {router} dev eth1 scope link table 2\n"
        "node-a$ ip route replace default via {router} dev eth1 table 2"
    )
    rule = "node-a$ ip rule add priority 1536 from {address_d} lookup 2"
    return (
        f"{rule}\n{table}",
        table,
        f"node-a$ ip rule del priority 1536\n{rule}",
        table,
        "node-a$ ip rule del priority 1000",
        "node-a$ ip route replace {subnet} dev eth0 scope link src {host}",
    )[int(words["fault"])].format_map(words)


# --- lesson 06 --------------------------------------------------------------------------------


def how_many_pods(words: Words) -> str:
    enis, each, vcpus = int(words["enis"]), int(words["each"]), int(words["vcpus"])
    wide = words["mode"] in ("prefixes", "capped") and words["hypervisor"] != "xen"
    pods = (enis - (words["mode"] == "custom")) * (each - 1) * (16 if wide else 1) + 2
    return str(min(pods, 250 if vcpus > 30 else 110) if words["mode"] == "capped" else pods)


def which_are_free(words: Words) -> str:
    found = [x for x in "abcd" if words[f"offset_{x}"] in ("12", "13", "14")]
    return " ".join(found) or "none"


def why_does_it_wait(words: Words) -> str:
    return next(x for x in "abcd" if words[x] == words["cause"])


def plan_a_subnet(words: Words) -> str:
    """With the default WARM_ENI_TARGET an ENI's worth of addresses is kept in reserve."""
    enis, each = {"t3.small": (3, 4), "t3.medium": (3, 6), "m5.large": (3, 10)}[words["kind"]]
    mine = min(enis, -(-int(words["pods"]) // (each - 1)) + 1)
    need = int(words["count"]) * mine * each + 8 + 5
    return f"{words['sample'].split('/')[0]}/{32 - (need - 1).bit_length()}"


SOLVERS: dict[str, Solver] = {
    "enis-and-their-addresses/how-many-pods": how_many_pods,
    "enis-and-their-addresses/which-are-free": which_are_free,
    "enis-and-their-addresses/why-does-it-wait": why_does_it_wait,
    "enis-and-their-addresses/plan-a-subnet": plan_a_subnet,
    "pods-on-different-nodes/which-interface": which_interface,
    "pods-on-different-nodes/to-the-router": to_the_router,
    "pods-on-different-nodes/what-still-works": what_still_works,
    "pods-on-different-nodes/mend-the-node": mend_the_node,
}
LESSONS = ("enis-and-their-addresses", "pods-on-different-nodes")


def slips(name: str, words: Words) -> Mapping[str, str]:
    right = SOLVERS[name](words)
    match name.split("/")[1]:
        case "how-many-pods":
            enis, each = int(words["enis"]), int(words["each"])
            wide = words["mode"] in ("prefixes", "capped") and words["hypervisor"] != "xen"
            count, block = enis - (words["mode"] == "custom"), 16 if wide else 1
            all_ = count * (each - 1) * block + 2
            asked = {
                str(count * each * block): "Whose is the first?",
                str(count * each * block + 2): "Whose is the first?",
                str(all_ - 2): "Which pods use the node's own address",
                "1": "Write the three numbers down first.",
            }
            if words["mode"] == "custom":
                asked[str(enis * (each - 1) + 2)] = "Which ENI gives its addresses to nobody"
            if words["mode"] == "capped" and all_ > int(right):
                asked[str(all_)] = "How many pods does EKS recommend at most?"
                asked[str({"110": 250, "250": 110}[right])] = "How many vCPUs are there?"
            if words["hypervisor"] == "xen" and "p" in words["mode"] and words["mode"] != "plain":
                asked[str((each - 1) * enis * 16 + 2)] = "On which hypervisors can an ENI"
            asked.pop(right, None)
            return asked | {"many": "is no number of pods"}
        case "which-are-free":
            return {
                flipped(right, x): "has any ENI got it"
                if words[f"offset_{x}"] in ("12", "13", "14")
                else "does AWS keep, and which?"
                if words[f"offset_{x}"] in ("0", "1", "2", "3", "15")
                else "whose own address is it?"
                if words[f"offset_{x}"] in ("4", "8")
                else "has EC2 given it away already"
                for x in "abcd"
            }
        case "why-does-it-wait":
            asked = {
                "kubelet": "that no node takes it, or",
                "type": "how many does its type allow?",
                "subnet": "how many does one more ENI want?",
                "setting": "Which setting would that be",
            }
            return {x: asked[words[x]] for x in "abcd" if x != right} | {"ab": "with one letter"}
        case "plan-a-subnet":
            base, size = right.split("/")
            return {
                f"{base}/{int(size) + 1}": "Whose addresses did you count",
                f"{base}/{int(size) - 1}": "Would half of it do as well?",
                f"{base[:-1]}9/{size}": "Which address is the first of that block?",
                words["taken_2"]: "share addresses?",
                "192.168.0.0/24": "Is 192.168.0.0/24 within",
                f"{base}/29": "Which of them is the smallest?",
                base: "is no CIDR",
            }
        case "which-interface":
            asked = {
                "none": "how does a packet get out?",
                "eth2": "Which pod has an address of eth2?",
                "eth0": f"does it name {words['address_d']}?",
                "eth1": "a rule that names",
            }
            if right == "none":
                asked = dict.fromkeys(asked, "who is to get it?")
            asked.pop(right)
            return asked | {"wlan0": "is no ENI of node-a"}
        case "to-the-router":
            asked = {}
            for x in "abcd":
                asked[flipped(right, x)] = (
                    f"is the receiver's address in {words['subnet']}?"
                    if words[f"to_{x}"] == "far"
                    else "has it a row for the subnet?"
                    if words[f"from_{x}"] == "d" and words[f"to_{x}"] == "bastion"
                    else "is there a `via` in it?"
                    if words[f"to_{x}"] == "bastion"
                    else "does this packet leave by an ENI at all?"
                )
            return asked
        case "what-still-works":
            asked = {}
            for x in "abcd":
                inward = words[f"from_{x}"] == "far" and "eth1 down" not in words["line"]
                stays = words["line"] == "ip route del default"
                asked[flipped(right, x)] = (
                    "ever use what was changed?"
                    if x in right.replace("none", "")
                    else "Which way does the answer take"
                    if inward and "route del 10" not in words["line"]
                    else "which row would have carried this packet"
                    if stays or "route del" in words["line"] or words[f"from_{x}"] == "far"
                    else "does it own the sender?"
                )
            return asked
        case _:
            return {
                "node-b$ ip rule del priority 512": "Which row of node-a sends",
                "node-a$ iptables -t nat -A POSTROUTING -j MASQUERADE": "another address than the",
                "node-a$ ip rule flush": "Which single row is missing or wrong?",
                "node-a$ ip route flush table main": "Which single row is missing or wrong?",
                "node-a$ ip rule add from all lookup 2": "Whose packets belong there?",
                "node-a$ ip link set eth1 down": "or the choice between them?",
                "node-a$ ip rule show": "by which ENI did the packet leave?",
                "ip rule show": "doesn't say where to run",
            }


# --- all of them ------------------------------------------------------------------------------


def elsewhere(variant: Variant) -> None:
    """EC2 gives and takes: no command of a node changes what it has given."""
    ec2 = cluster_of(variant.lab).ec2
    small = ec2.vpc.subnets["private-b"]
    ec2.create_network_interface(small, secondary_count=small.free - 1)
    for eni in [each for each in ec2.vpc.enis.values() if each.device_index == 1]:
        ec2.detach_network_interface(eni.attachment_id)


CHANGES: Mapping[str, Change] = {
    "pods-on-different-nodes/which-interface": "node-a$ ip rule del priority 1536",
    "pods-on-different-nodes/to-the-router": "node-a$ ip rule add pref 5 from all lookup 2",
    "pods-on-different-nodes/what-still-works": "node-a$ ip link set eth0 down",
    "enis-and-their-addresses/which-are-free": elsewhere,
    "enis-and-their-addresses/why-does-it-wait": elsewhere,
}


class TestNodesAndEnis(FourWaysAndFaults):
    suite = Suite(lessons=LESSONS, solvers=SOLVERS, slips=slips, changes=CHANGES)
