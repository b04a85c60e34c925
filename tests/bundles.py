"""Makes log bundles, as eks-log-collector lays them out, from a cluster's node."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ekslearn.cluster import Cluster

LISTINGS = {
    "networking/iprule.txt": "ip rule show",
    "networking/iproute.txt": "ip route show table all",
    "networking/iptables-save.txt": "iptables-save",
    "sysctls/sysctl_all.txt": "sysctl -a",
}


def gather(cluster: Cluster, node: str, folder: Path, run: Callable[[str, str], str]) -> Path:
    """Write the bundle of ``node``; ``run(place, command)`` is whoever lists, model or kernel."""
    for name, command in LISTINGS.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(run(node, command), encoding="utf-8")
    (folder / "ipamd").mkdir(exist_ok=True)
    told = cluster.machines[node].ipamd.introspect()
    (folder / "ipamd/enis.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "system").mkdir(exist_ok=True)
    (folder / "system/region.txt").write_text("eu-west-1\n", encoding="utf-8")
    (folder / "kubelet").mkdir(exist_ok=True)
    (folder / "kubelet/kubeconfig.yaml").write_text("token: s3cret\n", encoding="utf-8")
    return folder
