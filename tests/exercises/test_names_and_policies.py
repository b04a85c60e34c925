"""The exercises of lesson 16, four ways (see tests.exercises.ways)."""

from __future__ import annotations

from collections.abc import Mapping

from ekslearn.exercises import exercise
from ekslearn.exercises.dns_and_network_policy import guard
from ekslearn.exercises.format import Variant, cluster_of
from tests.exercises.ways import LEARNERS, FourWays, Suite, Words, flipped, words_of

LESSON = "dns-and-network-policy"


def how_many(words: Words) -> str:
    """By rule of thumb: two questions for each name, up to the one that is found."""
    name, ndots, shop = words["name"], int(words["ndots"]), words["shop"]
    if name.endswith(".") or name.count(".") >= ndots:
        # As it stands first; a name of the cluster that isn't whole is found with an ending.
        whole = name.rstrip(".").endswith(("com", "org", "svc.cluster.local"))
        return "2" if whole else str(2 + int(how_many({**words, "ndots": "9"})))
    endings = {"web": 1, f"web.{shop}": 2, "kube-dns.kube-system": 2, "kube-dns.kube-system.svc": 3}
    return str(2 * endings.get(name, 5))


def lets_in(words: Words, source: str) -> bool:
    if source.startswith("node"):
        return source == "node-b"  # where web runs
    if words["port"] == "80":
        return False
    peers = words["peers"]
    if peers == "from nobody":
        return False
    if source == "client":
        return peers in ("from client pods", "from client pods, or from the namespaces of team"
                         " money")  # fmt: skip
    return peers != "from client pods"


def lets_out(words: Words, source: str, target: str) -> bool:
    peers, port = words["peers"], words["port"]
    if source == "audit":
        return True
    if target == "DNS":
        return port == "53" and peers in (
            "to everybody", "to the VPC's and the Services' addresses",
        )  # fmt: skip
    if peers == "to web pods":
        return port in ("http", words["listens"])
    if target == "web":
        return port == words["listens"]
    return port == "80" and peers != "to the VPC's addresses"


def who_gets_through(words: Words) -> str:
    return " ".join(x for x in "abcd" if lets_in(words, words[f"from_{x}"])) or "none"


def service_or_pod(words: Words) -> str:
    found = (x for x in "abcd" if lets_out(words, words[f"from_{x}"], words[f"to_{x}"]))
    return " ".join(found) or "none"


DNS = (
    "{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}},"
    " podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{port: 53, protocol: UDP}]}"
)


WEB = "{podSelector: {matchLabels: {app: web}}}"


def write_the_policy(words: Words) -> str:
    web = f"{{to: [{WEB}], ports: [{{port: {words['listens']}}}]}}"
    return (
        f"{{podSelector: {{matchLabels: {{app: client}}}}, policyTypes: [Egress],"
        f" egress: [{web}, {DNS}]}}"
    )


SOLVERS = {
    f"{LESSON}/how-many-questions": how_many,
    f"{LESSON}/who-gets-through": who_gets_through,
    f"{LESSON}/service-or-pod": service_or_pod,
    f"{LESSON}/write-the-policy": write_the_policy,
}
OPEN = f"{LESSON}/write-the-policy"
NONSENSE = ("perhaps", "e f", "{", "[]", "spec: {}", "😀", "-1", "99999")


def slips(name: str, words: Words) -> Mapping[str, str]:
    right = SOLVERS[name](words)
    match name.split("/")[1]:
        case "how-many-questions":
            count = int(right)
            asked = {str(count // 2): "Which two kinds of record", "many": "is no number"}
            if words["name"].endswith("."):
                return asked | {str(count + 2): "a dot at the end"}
            asked[str(count + 2)] = "is one found first?"
            return asked | ({"2": "what is tried before it?"} if count > 4 else {})
        case "who-gets-through":
            return {
                flipped(right, x): (
                    "who asks there whether it is alive?"
                    if words[f"from_{x}"] == "node-b"
                    else "is a node a pod"
                    if words[f"from_{x}"] == "node-a"
                    else "any rule that lets a pod in?"
                    if words["peers"] == "from nobody"
                    else "when it reaches web's cable?"
                    if words["port"] == "80" or (words[f"to_{x}"] != "web" and x in right)
                    else "which namespace does a podSelector alone mean"
                    if x in right.replace("none", "")
                    else "one single entry of `from`"
                )
                for x in "abcd"
            }
        case "service-or-pod":
            return {
                flipped(right, x): (
                    "whom does it select?"
                    if words[f"from_{x}"] == "audit"
                    else {
                        "DNS": "of which protocol",
                        "web": "when it leaves client's cable?",
                        "the Service web": "*before* kube-proxy translates it",
                    }[words[f"to_{x}"]]
                )
                for x in "abcd"
            }
        case _:
            everywhere = "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress],"
            blocks = f"{{ipBlock: {{cidr: {words['services']}}}}}"
            return {
                f"{everywhere} egress: [{{}}]}}": "Whom does your rule for web mean?",
                right.replace(words["listens"], "80"): "By which address and port",
                right.replace(", protocol: UDP", ""): "can't look up a name",
                right.replace("kube-system", "shops"): "can't look up a name",
                right.replace("podSelector: {matchLabels: {app: client}}", "podSelector: {}", 1):
                    "Whom does your podSelector choose?",
                right.replace("ports: [{port: 53, protocol: UDP}]", "ports: []"):
                    "By which ports does your rule for DNS open?",
                right.replace(f"ports: [{{port: {words['listens']}}}]", "ports: []"):
                    "By which ports does your rule open web?",
                right.replace("egress: [", "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}],"
                              " ports: [{port: 10250}]}, "): "Is that address a pod's?",
                f"{everywhere} egress: [{{to: [{blocks}], ports: [{{port: {words['listens']}}}]}},"
                f" {DNS}]}}": "By which address and port",
                right.replace(DNS, "{ports: [{port: 53, protocol: UDP}]}"):
                    "rule for DNS mean?",
                right.replace(WEB, "{namespaceSelector: {}}"): "Whom does your rule for web mean?",
                right.replace("egress: [", "egress: [{ports: [{port: 80}]}, "):
                    "Whom does your rule for web mean?",
                "{podselector: {}}": "did you mean podSelector?",
            }  # fmt: skip


def nobody_serves(variant: Variant) -> None:
    """Every Service is gone."""
    services = cluster_of(variant.lab).services
    for service in list(services):
        services.remove(service.key)


def all_may(variant: Variant) -> None:
    """One more policy admits everything."""
    everything = "{podSelector: {}, ingress: [{}], egress: [{}]}"
    guard(cluster_of(variant.lab), variant.words, everything)


class TestNamesAndPolicies(FourWays):
    suite = Suite(
        lessons=(LESSON,), solvers=SOLVERS, slips=slips, nonsense=NONSENSE, strict=(OPEN,),
        changes={
            f"{LESSON}/how-many-questions": nobody_serves,
            f"{LESSON}/who-gets-through": all_may,
            f"{LESSON}/service-or-pod": all_may,
        },
    )  # fmt: skip


def test_a_policy_may_be_written_in_blocks_and_by_other_means() -> None:
    learner = LEARNERS[0]
    words = words_of(OPEN, learner)
    blocks = f"""
  podSelector:
    matchExpressions:
      - {{key: app, operator: In, values: [client]}}
  policyTypes: [Egress]
  egress:
    - to:
        - ipBlock: {{cidr: {words["services"]}}}
      ports:
        - {{port: 53, protocol: UDP}}
    - to:
        - podSelector: {{matchLabels: {{app: web}}}}
      ports:
        - port: http
"""
    flow = write_the_policy(words)
    fenced = f"```yaml\n{flow}\n```"
    for answer in (f"\n{blocks}", f"`{flow}`", fenced, f"spec: {flow}", f"spec:{blocks}"):
        assert exercise(OPEN, learner=learner).check(answer).right, answer
