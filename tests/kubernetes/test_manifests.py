"""Manifests as users have them: what kubectl prints of a real cluster, and what it would refuse."""

from __future__ import annotations

import pytest

from ekslearn import data_path
from ekslearn.cluster import Cluster
from ekslearn.errors import EkslearnError, NotModelled
from ekslearn.kubernetes.fields import known
from ekslearn.kubernetes.proxy import chain
from ekslearn.scenario import load

RUNNING = data_path("scenarios/services.yaml").read_text(encoding="utf-8")
WEB = chain("SVC", "shop/web:http", "tcp")
API_SVC, API_SVL, API_EXT = (chain(kind, "shop/api", "tcp") for kind in ("SVC", "SVL", "EXT"))


def loaded(text: str) -> Cluster:
    made = load(RUNNING + text)
    assert isinstance(made, Cluster)
    return made


def rules(cluster: Cluster, of: str, node: str = "node-a", table: str = "nat") -> list[str]:
    """The rules of a chain, each from behind its comment on."""
    said = cluster.run(node, f"iptables-save -t {table}").stdout.splitlines()
    return [one.removeprefix(f"-A {of} ") for one in said if one.startswith(f"-A {of} ")]


def service(spec: str, name: str = "api", metadata: str = "") -> str:
    return (f"---\napiVersion: v1\nkind: Service\n"
            f"metadata: {{name: {name}, namespace: shop{metadata}}}\nspec: {spec}\n")  # fmt: skip


def pod(name: str, ip: str, *, node: str = "node-a", metadata: str = "", status: str = "",
        spec: str = "") -> str:  # fmt: skip
    return f"""---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: api}}{metadata}}}
spec:
  nodeName: {node}
  containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]
{spec}
status: {{podIP: {ip}{status}}}
"""


API = service("{clusterIP: 172.20.45.7, selector: {app: api}, ports: [{port: 80, targetPort: http"
              "}]}")  # fmt: skip
OWNED = ", ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: api-7d4b9c, uid: u}]"
DEPLOYMENT = """---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop, annotations: , uid: u1}
spec:
  replicas: 2
  selector: {matchLabels: {app: api}}
  strategy: {type: RollingUpdate}
  template:
    metadata: {creationTimestamp: null, labels: {app: api}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: api-7d4b9c
  namespace: shop
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: api, uid: u1}]
spec:
  replicas: 2
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
"""


@pytest.mark.parametrize("there", [0, 1, 2])
def test_what_is_printed_of_a_deployment_is_there_once(there: int) -> None:
    """``kubectl get all`` prints a Deployment, its ReplicaSet and its pods."""
    pods = [pod("api-7d4b9c-aaaaa", "10.0.1.46", metadata=OWNED),
            pod("api-7d4b9c-bbbbb", "10.0.2.12", node="node-b", metadata=OWNED)]  # fmt: skip
    cluster = loaded(DEPLOYMENT + "".join(pods[:there]))
    made = [one for one in cluster.pods if one.startswith("shop/api")]
    assert len(made) == 2
    assert sum(one.startswith("shop/api-7d4b9c-") for one in made) == there


SLICE = """---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-x7k2p
  namespace: shop
  labels:
    endpointslice.kubernetes.io/managed-by: WHO
    kubernetes.io/service-name: web
addressType: IPv4
endpoints:
  - {addresses: [10.0.1.45], nodeName: node-a, zone: us-east-1a, targetRef: {kind: Pod}}
  - {addresses: [10.0.2.77], nodeName: node-b}
ports: [{name: http, port: 8080, protocol: TCP, appProtocol: http}]
"""


def test_an_endpoint_counts_once_whoever_names_it() -> None:
    cluster = loaded(SLICE.replace("WHO", "me") + SLICE.replace("WHO", "me").replace("x7k2p", "y"))
    assert [one.partition("statistic")[2] for one in rules(cluster, WEB)] == [
        " --mode random --probability 0.50000000000 -j KUBE-SEP-5RNPZ3PAGTXMEYKA", "",
    ]  # fmt: skip


def test_the_controllers_slices_follow_from_the_pods() -> None:
    cluster = loaded(SLICE.replace("WHO", "endpointslice-controller.k8s.io"))
    assert [one.partition("ignored")[2] for one in cluster.notes] == [
        ": EndpointSlice web-x7k2p, for shop/web has a selector: its pods decide"
    ]
    cluster.delete_pod("shop/web-2")
    cluster.sleep(1)
    assert len(rules(cluster, WEB)) == 1


def test_of_an_endpoints_addresses_the_first_counts() -> None:
    text = SLICE.replace("WHO", "me").replace("[10.0.2.77]", "[10.0.2.77, 10.0.9.8]")
    assert len(rules(loaded(text), WEB)) == 2


def test_a_slice_of_no_service_is_listed() -> None:
    text = SLICE.replace("WHO", "me").replace("service-name: web", "service-name: wep")
    assert (
        loaded(text).notes[0].endswith("EndpointSlice web-x7k2p, for there is no Service shop/wep")
    )


def test_a_pods_state_is_read() -> None:
    """One that is being deleted serves while none is ready, as KEP-1669 has it."""
    going = pod("going", "10.0.1.46", metadata=", deletionTimestamp: '2024-01-01T00:00:00Z'",
                status=", conditions: [{type: Ready, status: 'True'}]")  # fmt: skip
    unready = ", conditions: [{type: Ready, status: 'False'}, {type: Initialized, status: 'True'}]"
    sick = pod("sick", "10.0.2.12", node="node-b", status=unready)
    ends = [one.split('"')[1] for one in rules(loaded(API + going + sick), API_SVC)]
    assert ends == ["shop/api -> 10.0.1.46:8080"]
    published = API.replace("selector", "publishNotReadyAddresses: true, selector")
    assert len(rules(loaded(published + going + sick), API_SVC)) == 2
    assert rules(loaded(API + sick), "KUBE-SERVICES", table="filter") == [
        '-d 172.20.45.7/32 -p tcp -m comment --comment "shop/api has no endpoints" -m tcp'
        " --dport 80 -j REJECT --reject-with icmp-port-unreachable"
    ]
    well = pod("well", "10.0.2.12", node="node-b")
    ends = [one.split('"')[1] for one in rules(loaded(API + going + well), API_SVC)]
    assert ends == ["shop/api -> 10.0.2.12:8080"]


def test_a_pod_that_has_ended_has_no_address() -> None:
    cluster = loaded(pod("job", "10.0.1.46", status=", phase: Succeeded") + pod("api", "10.0.1.46"))
    assert "shop/job" not in cluster.pods
    assert cluster.notes[0].endswith("ignored: Pod job, which has ended")


def test_a_pod_on_its_nodes_network_says_its_ports_twice() -> None:
    """The API server writes the hostPort of such a pod: aws-node's, in every cluster."""
    text = pod("aws-node", "10.0.1.10", spec="  hostNetwork: true").replace(
        "containerPort: 8080", "containerPort: 61678, hostPort: 61678"
    )
    assert loaded(text).trace("shop/web-1", "10.0.1.10:61678").verdict == "delivered"
    with pytest.raises(NotModelled, match="hostPort isn't modelled"):
        loaded(text.replace("hostPort: 61678", "hostPort: 61679"))


def test_a_sidecar_listens_and_an_init_container_has_ended() -> None:
    more = ("  initContainers:\n    - {name: side, restartPolicy: Always, ports:"
            " [{containerPort: 9000}]}\n"
            "    - {name: first, ports: [{containerPort: 9001}]}")  # fmt: skip
    cluster = loaded(pod("api", "10.0.1.46", spec=more))
    assert cluster.trace("default/client", "10.0.1.46:9000").verdict == "delivered"
    assert cluster.trace("default/client", "10.0.1.46:9001").verdict == "refused"


def test_a_field_that_says_nothing_is_not_there() -> None:
    """As templates leave it: ``annotations:`` and a line's end."""
    text = service("{clusterIP: null, type: ~, selector: {app: web}, ports: [{port: 80, nodePort: "
                   "}]}", metadata=", annotations: , labels: null")  # fmt: skip
    assert loaded(text).services["shop/api"].kind == "ClusterIP"


LOCAL = "{externalTrafficPolicy: Local, externalIPs: [10.0.9.77], clusterIP: 172.20.45.7,\
 selector: {app: web}, ports: [{port: 80, targetPort: http}]}"


def test_an_external_ip_has_a_policy() -> None:
    cluster = loaded(service(LOCAL) + pod("away", "10.0.2.12", node="node-b"))
    assert [one.rpartition("-j ")[2] for one in rules(cluster, API_EXT)] == [
        "KUBE-MARK-MASQ", API_SVC, API_SVL,
    ]  # fmt: skip
    cluster.delete_pod("shop/web-1")
    cluster.sleep(1)
    assert rules(cluster, "KUBE-EXTERNAL-SERVICES", table="filter") == [
        '-d 10.0.9.77/32 -p tcp -m comment --comment "shop/api has no local endpoints" -m tcp'
        " --dport 80 -j DROP"
    ]


def test_without_a_door_no_chain_is_written_for_one() -> None:
    """A balancer that needs no node port: nothing leads to its local endpoints."""
    spec = (
        "{type: LoadBalancer, allocateLoadBalancerNodePorts: false, externalTrafficPolicy: Local,\
 loadBalancerClass: service.k8s.aws/nlb, selector: {app: web}, ports: [{port: 80, targetPort: http\
}]}"
    )
    note = "{service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip}"
    cluster = loaded(service(spec, metadata=f", annotations: {note}"))
    assert rules(cluster, API_SVL) == []
    assert len(rules(cluster, API_SVC)) == 2
    inside = loaded(service(spec.replace("selector", "internalTrafficPolicy: Local, selector"),
                            metadata=f", annotations: {note}"))  # fmt: skip
    assert len(rules(inside, API_SVL)) == 1
    assert rules(inside, API_SVC) == []


DNS = "{{type: NodePort, selector: {{app: web}}, ports: [{{name: dns, port: 53, protocol: UDP{0}}},\
 {{name: dns-tcp, port: 53{1}}}]}}"
NODE_PORTS = {
    ("", ""): (30086, 30086), (", nodePort: 30053", ", nodePort: 30053"): (30053, 30053),
    ("", ", nodePort: 30053"): (30053, 30053),
    (", nodePort: 30053", ", nodePort: 30054"): (30053, 30054),
}  # fmt: skip


@pytest.mark.parametrize("asked", NODE_PORTS)
def test_two_protocols_of_one_port_share_a_node_port(asked: tuple[str, str]) -> None:
    made = loaded(service(DNS.format(*asked))).services["shop/api"]
    assert tuple(one.node_port for one in made.ports) == NODE_PORTS[asked]
    with pytest.raises(EkslearnError, match=r"nodePort: 30053 is taken"):
        loaded(
            service(DNS.format(", nodePort: 30053", ", nodePort: 30053"))
            + service("{type: NodePort, ports: [{port: 1, protocol: UDP, nodePort: 30053}]}", "b")
        )


PORTS = "ports: [{port: 80}]}"
BAD = {
    "{selectors: {a: b}, " + PORTS: "spec.selectors: Kubernetes' ServiceSpec has no such field; did"
    " you mean selector?",
    "{trafficDistribution: PreferClose, " + PORTS: "spec.trafficDistribution: trafficDistribution"
    " isn't modelled",
    "{ipFamilyPolicy: RequireDualStack, " + PORTS: "spec.ipFamilyPolicy: there is no policy for"
    " IPv4 alone 'RequireDualStack'",
    "{clusterIP: 172.20.1.1, clusterIPs: [172.20.1.2], " + PORTS: "spec.clusterIPs[0]: clusterIPs"
    " has to hold what clusterIP says",
    "{clusterIP: 172.20.1.1, clusterIPs: [172.20.1.1, 'fd00::1'], " + PORTS: "spec.clusterIPs[1]: ",
    "{sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}, " + PORTS: "spec.sessionAffinity"
    "Config: sessionAffinityConfig is for sessionAffinity: ClientIP",
    "{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIp: {}}, " + PORTS:
    "spec.sessionAffinityConfig.clientIp: Kubernetes' SessionAffinityConfig has no such field",
    "{loadBalancerSourceRanges: [10.0.0.0/8], " + PORTS: "spec.loadBalancerSourceRanges:"
    " loadBalancerSourceRanges is for type: LoadBalancer",
    "{loadBalancerClass: a/b, " + PORTS: "spec.loadBalancerClass: loadBalancerClass is for type:",
    "{externalName: a.b, " + PORTS: "spec.externalName: externalName is for type: ExternalName",
    "{type: ExternalName, externalName: a..b}": "spec.externalName: 'a..b' isn't a name that DNS",
    "{type: ExternalName, externalName: a.b, clusterIP: 172.20.1.1}": "spec: a Service of type Ext",
    "{externalIPs: [127.0.0.1], " + PORTS: "spec.externalIPs[0]: 127.0.0.1 can't be the address of",
    "{selector: {app: a b}, " + PORTS: "spec.selector.app: 'app: a b' can't be a label: at most 63",
    "{ports: [{port: 80, target: 8080}]}": "spec.ports[0].target: Kubernetes' ServicePort has no",
    "{ports: [{port: 80, targetPort: '8080'}]}": "spec.ports[0].targetPort: '8080' can't name a",
    "{ports: [{port: 80, targetPort: sixteen-letters-}]}": "spec.ports[0].targetPort: 'sixteen-",
    "{ports: [{port: 80, name: HTTP}]}": "spec.ports[0].name: 'HTTP' can't be a name",
    "{ports: [80]}": "spec.ports[0]: expected a mapping, found a number",
    "{ports: [{targetPort: 80}]}": "spec.ports[0]: the field port is missing",
    "[]": "spec: expected a mapping, found a list",
}  # fmt: skip


@pytest.mark.parametrize("spec", BAD)
def test_a_service_that_the_api_server_refuses(spec: str) -> None:
    said(service(spec), BAD[spec])


MINE = SLICE.replace("WHO", "me")
ALSO_BAD = {
    "a pod's field": (pod("a", "10.0.1.46", spec="  hostNetwrok: true"), "spec.hostNetwrok:"
                      " Kubernetes' PodSpec has no such field; did you mean hostNetwork?"),
    "no containers": (pod("a", "10.0.1.46").replace("[{name: c, ports", "[] # "), "spec: the field"
                      " containers is missing"),
    "a template's field": (DEPLOYMENT.replace("{containers:", "{container:", 1), "spec.template."
                         "spec.container: Kubernetes' PodSpec has no such field; did you mean con"),
    "a port's name": (pod("a", "10.0.1.46").replace("name: http", "name: '80'"), "containers[0]"
                      ".ports[0].name: '80' can't name a port"),
    "two containers": (pod("a", "10.0.1.46").replace("}]}]", "}]}, {name: c}]"), "containers[1]"
                       ".name: another Container here has the same name"),
    "two ports": (pod("a", "10.0.1.46").replace("8080}", "8080}, {name: http, containerPort: 1}"),
                  ".ports[1].name: another ContainerPort here has the same name"),
    "two ports of a slice": (MINE.replace("[{name", "[{name: http, port: 1}, {name"),
                             "ports[1].name: another EndpointPort here has the same name"),
    "a label": (pod("a", "10.0.1.46").replace("app: api", "app: /"), "metadata.labels.app: 'app: /'"
                " can't be a label"),
    "IPv6": (MINE.replace("IPv4", "IPv6"), "addressType: IPv6 isn't modelled; use IPv4"),
    "no type": (MINE.replace("addressType: IPv4\n", ""), "the field addressType is missing"),
    "no address": (MINE.replace("[10.0.1.45]", "[]"), "endpoints[0]: the field addresses"),
    "localhost": (MINE.replace("10.0.1.45", "127.0.0.1"), "endpoints[0].addresses[0]: 127.0."),
    "hints": (MINE.replace("zone: us-east-1a", "hints: {}"), "endpoints[0].hints: hints isn't mo"),
    "twice": (MINE + MINE, "metadata.name: a second EndpointSlice shop/web-x7k2p"),
    "a namespace": ("---\napiVersion: v1\nkind: Namespace\nmetadata: {labels: {a: b}}\n",
                    "a Namespace needs metadata.name"),
    "an ingress": ("---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\n"
                   "spec: {rule: []}\n", "spec.rule: unknown field; did you mean rules?"),
    "a policy's port": ("---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
                        "metadata: {name: a}\nspec: {ingress: [{ports: [{port: '80'}]}]}\n",
                        "spec.ingress[0].ports[0].port: '80' can't name a port"),
    "whose groups": ("---\napiVersion: vpcresources.k8s.aws/v1beta1\nkind: SecurityGroupPolicy\n"
                     "metadata: {name: a}\nspec: {podSelector: {matchExpressions: []},"
                     " securityGroups: {groupIds: [a]}}\n", "spec.podSelector.matchExpressions:"
                     " matchExpressions isn't modelled"),
}  # fmt: skip


@pytest.mark.parametrize("case", ALSO_BAD)
def test_what_else_the_api_server_refuses(case: str) -> None:
    said(*ALSO_BAD[case])


def said(text: str, why: str) -> None:
    """It is refused with these words, on a line of its own."""
    with pytest.raises(EkslearnError) as caught:
        loaded(text)
    where, line, rest = str(caught.value).split(":", 2)
    assert (where, int(line) > RUNNING.count("\n")) == ("(text)", True)
    assert why in rest
    assert "\n" not in rest


def test_every_type_that_a_field_names_is_there() -> None:
    named = {inner for fields in known().values() for _, inner, _, _ in fields.values()}
    assert named - {"", "Labels"} <= known().keys()


def test_an_empty_document_is_let_be() -> None:
    """As templates leave them between their comments."""
    cluster = loaded(f"---\n# Source: web/templates/none.yaml\n---\n{API}---\n")
    assert "shop/api" in [one.key for one in cluster.services]


VPC = RUNNING.replace("cidrs: [10.0.0.0/16]", "cidrs: [10.0.0.0/16, OTHER]")


def test_the_range_of_services_is_one_that_the_vpc_does_not_have() -> None:
    plain = VPC.replace("  serviceCIDR: 172.20.0.0/16\n", "").replace("  clusterIP", "  # ")
    for other, cidr in {"10.100.0.0/16": "172.20.0.0/16", "172.20.0.0/20": "10.100.0.0/16"}.items():
        made = load(plain.replace("OTHER", other))
        assert isinstance(made, Cluster)
        assert str(made.services.cidr) == cidr
    with pytest.raises(EkslearnError, match=r":\d+: spec\.serviceCIDR: Services need a range that"):
        load(VPC.replace("OTHER", "172.20.0.0/20"))


def test_a_range_without_room_is_named_with_its_service() -> None:
    text = RUNNING.replace("172.20.0.0/16", "10.100.0.0/31").replace("  clusterIP", "  # ")
    with pytest.raises(EkslearnError, match=r"^\(text\):\d+: no address of 10\.100\.0\.0/31 is"):
        load(text)


def test_what_is_no_name_of_dns_itself_may_have_dots() -> None:
    assert "shop/web.example" in loaded(pod("web.example", "10.0.1.46")).pods
    said(service("{ports: [{port: 80}]}", "web.example"), "'web.example' can't be a name")
