"""Pictures of clusters, mark by mark; and ways through the VPC."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable

import pytest
from matplotlib.colors import to_hex
from matplotlib.transforms import Bbox

import ekslearn
from ekslearn.cluster import Cluster
from ekslearn.draw import describe, draw_lab
from ekslearn.draw.grammar import ENI_FILL
from ekslearn.draw.journey import by_aws, journey, line_of, turns_back
from ekslearn.draw.shown import shown
from ekslearn.draw.vpc_layout import VpcLayout, lay_out_vpc
from ekslearn.errors import EkslearnError
from ekslearn.vpc.security import NetworkAcl, SecurityRule
from tests.draw.clusters import (
    ALL,
    broken,
    crowd,
    empty,
    ingress,
    office,
    security_groups,
    two_nodes,
)
from tests.draw.test_picture import COLOURS, boxes_of, overlap

Make = Callable[[], Cluster]
every = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
widths = pytest.mark.parametrize("width", [540, 1000])


def frames(layout: VpcLayout, *kinds: str) -> dict[str, Bbox]:
    return {f.id: Bbox.from_bounds(f.x, layout.height - f.y - f.height, f.width, f.height)
            for f in layout.frames if f.kind in kinds}  # fmt: skip


def inside(outer: Bbox, inner: Bbox) -> bool:
    return outer.contains(inner.x0, inner.y0) and outer.contains(inner.x1, inner.y1)


def none_overlap(boxes: Iterable[tuple[str, Bbox]]) -> None:
    for (name, one), (other, two) in itertools.combinations(boxes, 2):
        assert not overlap(one, two), f"{name} overlaps {other}"


@every
@widths
def test_no_label_overlaps_another_or_a_mark_and_none_is_clipped(make: Make, width: float) -> None:
    drawing = draw_lab(make(), width=width)
    texts, marks = boxes_of(drawing)
    none_overlap(texts.items())
    page = Bbox.from_extents(0, 0, drawing.layout.width, drawing.layout.height)
    ports = {name: box for name, box in marks.items() if name.startswith(("if-", "road-"))}
    for name, text in texts.items():
        assert inside(page, text), name
        for port, mark in ports.items():
            if port.startswith("if-") or name.startswith("if-"):
                assert not overlap(text, mark), f"the label {name} overlaps {port}"


@every
@widths
def test_every_label_stands_in_its_frame_and_touches_no_other(make: Make, width: float) -> None:
    drawing = draw_lab(make(), width=width)
    texts, _ = boxes_of(drawing)
    rooms = frames(drawing.layout, "netns", "host", "gateway")
    for name, text in texts.items():
        for room, box in rooms.items():
            assert not overlap(text, box) or inside(box, text), (
                f"{name} runs over the edge of {room}"
            )


@every
@widths
def test_frames_stand_in_each_other_as_the_things_do(make: Make, width: float) -> None:
    lab = make()
    layout = draw_lab(lab, width=width).layout
    assert isinstance(layout, VpcLayout)
    (vpc,) = frames(layout, "vpc").values()
    subnets, nodes = frames(layout, "subnet"), frames(layout, "node")
    rooms = frames(layout, "netns", "host")
    for boxes in (subnets, nodes, rooms):
        none_overlap(boxes.items())
    assert all(inside(vpc, box) for box in subnets.values())
    for place, box in rooms.items():
        name = place.removeprefix("ns-")
        pod = lab.pods.get(name)
        if pod or name in lab.machines:
            assert inside(nodes[f"node-{pod.node if pod else name}"], box), place
        elif homes := standing(layout, name):
            assert all(inside(subnets[f"subnet-{home}"], box) for home in homes)
        else:
            assert not overlap(vpc, box), "who stands outside is drawn outside"
    for name, box in nodes.items():
        subnet = next(e.subnet.name for e in lab.vpc.enis.values()
                      if e.device_index == 0 and e.primary == primary(lab, name[5:]))  # fmt: skip
        assert inside(subnets[f"subnet-{subnet}"], box)


def standing(layout: VpcLayout, room: str) -> set[str]:
    """The subnets of the ENIs on a machine's box."""
    return {subnet for spot, (subnet, _) in layout.subnets.items() if layout.room(spot) == room}


def primary(lab: Cluster, node: str) -> object:
    return next(lab.vpc.enis[wire.eni].primary for wire in lab.wires if wire.place == node)


@every
def test_one_square_for_each_eni_and_two_circles_for_each_veth(make: Make) -> None:
    lab = make()
    drawing = draw_lab(lab)
    places = {room.partition("@")[0] for room in drawing.layout.boxes}
    filled = [p.get_gid() for p in drawing.figure.axes[0].patches
              if to_hex(p.get_facecolor()).upper() == ENI_FILL]  # fmt: skip
    plugged = [(w.place, w.interface) for w in lab.wires
               if w.until is None and w.eni and w.place in places]  # fmt: skip
    plugged += [(node, link.name) for node in lab.machines if node in places
                for link in lab.namespace(node).links.values() if link.kind == "vlan"]  # fmt: skip
    assert sorted(filled) == sorted(f"if-{place}-{name}" for place, name in plugged)
    _, marks = boxes_of(drawing)
    for one, other in lab.links():
        if one[0] in places and other[0] in places:
            assert {f"if-{one[0]}-{one[1]}", f"if-{other[0]}-{other[1]}"} <= set(marks)


@every
def test_the_svg_is_readable_and_says_what_the_words_say(make: Make) -> None:
    lab = make()
    drawing = draw_lab(lab)
    root, svg = ET.fromstring(drawing.svg), "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{svg}desc") == drawing.words == describe(lab)
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"#[0-9a-f]{6}", drawing.svg.split("</desc>")[1])) <= COLOURS
    assert drawing.svg == draw_lab(make()).svg, "the same state is the same picture"
    for place in drawing.layout.boxes:
        assert place.partition("@")[0] in drawing.words
    for wire in lab.wires:
        if wire.until is None and wire.place in drawing.layout.boxes and wire.eni:
            assert wire.eni in drawing.words
            assert str(lab.vpc.enis[wire.eni].primary) in drawing.words


def test_words_name_zones_routes_gateways_and_who_has_a_pods_address() -> None:
    words = describe(office())
    for line in (
        "  subnet private-a 10.0.0.0/19, us-east-1a; routes: local, 10.1.0.0/16 → tgw,"
        " 10.2.0.0/16 → pcx, 0.0.0.0/0 → nat",
        "    node node-a (m5.large); hostNetwork: kube-system/aws-node-x1",
        "  gateway igw: internet gateway",
        "  outside host internet; listens: 8080/tcp; lo 203.0.113.50/32",
    ):
        assert line in words.splitlines()
    assert re.search(r"eth0 10\.0\.32\.\d+/32 \(ENI eth[01]\) = veth = eni\w{11} in node-b", words)
    assert "gateway" not in describe(two_nodes())


def test_only_the_named_pods_of_a_full_node_are_shown_and_the_others_counted() -> None:
    lab = office()
    plain = draw_lab(lab)
    assert plain.words.count("pod default/web") == 3
    assert "      and 11 more pods" in plain.words.splitlines()
    assert "and 11 more pods" in plain.svg.split("</desc>")[1]
    named = draw_lab(lab, show=["default/web-7d9f8-09", "node-b"])
    assert "ns-default/web-7d9f8-09" in named.svg
    assert "and 13 more pods" in named.words
    with pytest.raises(EkslearnError, match="there is no place 'web'"):
        draw_lab(lab, show=["web"])


def test_of_many_nodes_those_are_shown_that_a_trace_meets() -> None:
    lab = crowd()
    assert "    and 1 more node" in draw_lab(lab).words.splitlines()
    trace = lab.copy().trace("default/node-1-x", "default/node-6-y")
    drawing = draw_lab(lab, trace=trace)
    nodes = {place for place in drawing.layout.boxes if place in lab.machines}
    assert nodes == {"node-1", "node-6"}
    assert drawing.words.count("and 3 more nodes") == 2


def test_what_is_broken_is_told() -> None:
    words = describe(broken())
    for part in (
        "eth1 10.0.0.8/19 DOWN",
        "eth0 10.0.0.4 (EC2's alone)",
        "eth0 10.0.0.5/32 DOWN",
        "and 10.9.9.9/32",
        "spare0 no address DOWN = veth = spare1 DOWN in node-b",
        "lo 203.0.113.7/32",
    ):
        assert part in words, part
    assert "web-3" not in words


def asks(lab: Cluster) -> list[tuple[str, str]]:
    """From every place to every other."""
    ends = [place for place in lab.places if "web-7d9f8" not in place or place.endswith("-13")]
    return [(a, b) for a in ends for b in ends if a != b]


@pytest.mark.parametrize(
    "make", [two_nodes, security_groups, office, broken, ingress], ids=lambda make: make.__name__
)
def test_every_way_is_unbroken_and_leads_over_marks_that_are_drawn(make: Make) -> None:
    lab = make()
    seen, aws = 0, 0
    for source, destination in asks(lab):
        try:
            trace = lab.copy().trace(source, destination)
        except EkslearnError:
            continue  # a place without an address
        layout = lay_out_vpc(shown(lab, [event.place for event in trace.events]))
        drawn = {frame.id for frame in layout.frames} | {p.id for p in layout.ports.values()}
        stops = journey(layout, trace)
        assert [stop.event for stop in stops] == list(trace.events)
        for before, stop in itertools.pairwise(stops):
            assert stop.way[0] == before.at
        for stop in stops:
            assert stop.way[-1] == stop.at
            assert 0 < stop.at[0] < layout.width
            assert 0 < stop.at[1] < layout.height
            assert drawn >= set(stop.marks)
            for (x, y), (u, v) in itertools.pairwise(stop.way):
                assert x == u or y == v, f"{source} to {destination}: {stop} goes askew"
            if by_aws(stop.event):
                aws += 1
                assert stop.at not in {box.middle for box in layout.boxes.values()}
        seen += 1
    assert seen > 10
    assert aws > 10


def spots(lab: Cluster, source: str, destination: str) -> list[tuple[str, str]]:
    """What AWS decides on the way, and the mark it is drawn at."""
    trace = lab.trace(source, destination)
    layout = draw_lab(lab, trace=trace).layout
    return [(stop.event.stage, stop.marks[0]) for stop in journey(layout, trace)
            if by_aws(stop.event)]  # type: ignore[union-attr]  # fmt: skip


def test_aws_decides_at_the_router_the_gateway_and_the_eni() -> None:
    assert spots(two_nodes(), "default/web-1", "default/api-1") == [
        ("vpc route", "vpc-router"), ("vpc route", "vpc-router"),
    ]  # fmt: skip
    assert spots(office(), "shop/api", "198.51.100.9:8080") == [
        ("vpc route", "vpc-router"), ("vpc nat", "gw-nat"), ("vpc nat", "gw-nat"),
    ]  # fmt: skip
    assert spots(office(), "bastion", "public:81") == [("vpc security group", "if-public-eth0")]
    assert spots(office(), "office", "shop/api:8080") == [
        ("vpc route", "gw-tgw"), ("vpc route", "vpc-router"),
    ]  # fmt: skip


def test_a_network_acl_decides_at_the_edge_of_its_subnet() -> None:
    lab = office()
    rules = [SecurityRule(number=100), SecurityRule(number=90, deny=True, protocol="udp")]
    lab.vpc.subnets["private-b"].nacl = NetworkAcl("strict", rules, rules[:1])
    assert "a network ACL filters it" in describe(lab)
    assert spots(lab, "shop/api", "default/web-7d9f8-00:80") == [
        ("vpc route", "vpc-router"), ("vpc network acl", "subnet-private-b"),
        ("vpc route", "vpc-router"), ("vpc network acl", "subnet-private-b"),
    ]  # fmt: skip


def test_a_packet_to_the_office_goes_by_the_transit_gateway() -> None:
    lab = office()
    trace = lab.trace("shop/api", "office:80")
    layout = draw_lab(lab, trace=trace).layout
    assert isinstance(layout, VpcLayout)
    gate = layout.gateways["tgw"][0]
    over = [stop.event.place for stop in journey(layout, trace) if gate in stop.way[1:]]
    assert over == ["office", "office"]  # in on the request, back out with the reply


def test_a_pods_own_eni_is_drawn_and_decides_about_its_security_groups() -> None:
    lab = security_groups()
    words = describe(lab)
    assert re.search(r"vlan\.eth\.1 10\.0\.0\.\d+, eni-\w{17}, VLAN 1 on eth1, security group app",
                     words)  # fmt: skip
    assert re.search(r"eth0 10\.0\.0\.\d+/32 \(branch vlan\.eth\.1\) = veth = vlan\w{11} in", words)
    assert spots(lab, "default/app", "default/db:5432")[:3] == [
        ("vpc security group", "if-node-a-vlan.eth.1"), ("vpc route", "vpc-router"),
        ("vpc security group", "if-node-a-vlan.eth.2"),
    ]  # fmt: skip


def test_a_load_balancer_stands_in_each_of_its_subnets() -> None:
    lab = ingress()
    drawing = draw_lab(lab)
    layout = drawing.layout
    assert isinstance(layout, VpcLayout)
    subnets, boxes = frames(layout, "subnet"), frames(layout, "host")
    for wire in lab.wires:
        eni = lab.vpc.enis.get(wire.eni)
        if wire.place in lab.elb.balancers and eni:
            box = boxes[f"ns-{layout.room((wire.place, wire.interface))}"]
            assert inside(subnets[f"subnet-{eni.subnet.name}"], box)
            x, y = layout.ports[wire.place, wire.interface].at
            assert (round(x), box.contains(box.x0 + 1, layout.height - y)) == (round(box.x1), True)
    assert drawing.words.count("Application Load Balancer lb/shop/site") == 2
    assert "2 pods, 2 hosts, 2 load balancers" in drawing.words
    assert "lb/shop/web; also in public-b" in drawing.words


@pytest.mark.parametrize("what", ["ingress/shop/site", "lb/shop/web:443"])
def test_a_call_stays_in_the_part_of_a_balancer_that_it_entered(what: str) -> None:
    """In by one ENI, and out by the one that it really left by: no way round by another's."""
    lab, met = ingress(), set()
    for _ in range(8):
        trace = lab.trace("browser", what)
        layout = draw_lab(lab, trace=trace).layout
        assert isinstance(layout, VpcLayout)
        stops = journey(layout, trace)
        own = [stop for stop in stops if stop.event.place.startswith("lb/")]
        used = {getattr(stop.event, "interface", "") for stop in own} - {""}
        rooms = {layout.room((own[0].event.place, name)) for name in used}
        box = layout.boxes[rooms.pop()]
        assert not rooms
        assert any(stop.marks == (box.id,) for stop in own)
        inside_it = [stop for stop in own if not getattr(stop.event, "stage", "").startswith("vpc")]
        assert all(box.y <= y <= box.y + box.height for stop in inside_it for _, y in [stop.at])
        mine = [stop for stop in stops if stop.event.leg == "request"]
        line = line_of(mine)
        for at in (two for one, two, three in zip(line, line[1:], line[2:], strict=False)
                   if turns_back(one, two, three)):  # fmt: skip
            headers = [getattr(stop.event, "header", {}) for stop in mine if stop.at == at]
            assert len({(head["src"], head["dst"]) for head in headers if head}) > 1
        met.add(box.place)
    assert len(met) == 2, "only one of the balancer's ENIs was met"


@every
def test_lines_end_at_gateways_and_none_leads_straight_from_one_to_a_host(make: Make) -> None:
    """One line from NAT gateway to browser would say that the browser's calls go there."""
    drawing = draw_lab(make())
    layout = drawing.layout
    assert isinstance(layout, VpcLayout)
    order = {str(p.get_gid()): p.get_zorder() for p in drawing.figure.axes[0].patches}
    for name, (gate, *_) in layout.gateways.items():
        assert order[f"gw-{name}"] > order[f"road-{name}"], "a line runs through the gateway"
        assert all(abs(gate[0] - x) > 20 for x, _ in layout.outside.values())


@pytest.mark.parametrize("make", [two_nodes, office, ingress], ids=lambda make: make.__name__)
def test_the_verdict_stands_clear_of_every_frame(make: Make) -> None:
    lab = make()
    drawing = draw_lab(lab, trace=lab.trace(*list(lab.places)[:2]))
    texts, marks = boxes_of(drawing)
    line = texts["verdict"]
    near = Bbox.from_bounds(line.x0, line.y0, line.width, line.height + 3)
    assert not [name for name, mark in marks.items() if overlap(near, mark)]


def test_a_line_goes_to_where_a_node_gives_another_address() -> None:
    """In and out by one ENI; it is the node that rewrites, and not the wire."""
    lab = ekslearn.load("traffic-policy")
    elsewhere = (lab.trace("laptop", "node-c:31380") for _ in range(20))
    trace = next(one for one in elsewhere if one.answer.startswith("shop/web-3"))
    drawing = draw_lab(lab, trace=trace)
    box, stops = drawing.layout.boxes["node-c"], journey(drawing.layout, trace)
    for leg in ("request", "reply"):
        line = line_of([stop for stop in stops if stop.event.leg == leg])
        plug = max(x for x, _ in drawing.layout.way("node-c", "eth0"))
        assert any(x < plug - 20 and box.y < y < box.y + box.height for x, y in line), leg


def test_an_empty_vpc_is_drawn_too() -> None:
    assert "0 nodes" in draw_lab(empty()).words


def test_a_line_does_not_go_aside_to_where_the_node_decides() -> None:
    cluster = two_nodes()
    trace = cluster.trace("default/web-4", "default/api-1:8080")
    stops = journey(draw_lab(cluster, trace=trace).layout, trace)
    for leg in ("request", "reply"):
        mine = [stop for stop in stops if stop.event.leg == leg]
        way = list(dict.fromkeys(point for stop in mine for point in stop.way))
        assert any(map(turns_back, way, way[1:], way[2:]))
        line = line_of(mine)
        assert not any(map(turns_back, line, line[1:], line[2:]))
        assert (line[0], line[-1]) == (way[0], way[-1])


def test_a_packet_dropped_at_its_eni_goes_no_further() -> None:
    """The source check stands at the ENI: the way there doesn't lead to the router and back."""
    lab = two_nodes()
    lab.run("node-a", "ip addr add 192.0.2.77/32 dev lo")
    lab.run("node-a", "iptables -t nat -I POSTROUTING -j SNAT --to-source 192.0.2.77")
    trace = lab.trace("default/web-1", "default/api-1")
    layout = lay_out_vpc(shown(lab, [event.place for event in trace.events]))
    last = journey(layout, trace)[-1]
    assert by_aws(last.event) and "source check" in getattr(last.event, "stage", "")
    assert max(x for x, _ in last.way) == last.at[0] < layout.bar
