"""The kernel's switches: ``net.ipv4...`` keys of one namespace, and how ``all`` joins an interface.

Source: Documentation/networking/ip-sysctl.rst and include/linux/inetdevice.h of Linux 6.18.
"""

from __future__ import annotations

CONF = "net.ipv4.conf."
# Per-interface switches, with the value a new network namespace starts from.
INTERFACE_DEFAULTS = {
    "accept_local": 0, "accept_redirects": 1, "arp_ignore": 0, "forwarding": 0, "proxy_arp": 0,
    "route_localnet": 0, "rp_filter": 0, "send_redirects": 1, "shared_media": 1, "src_valid_mark": 0
}  # fmt: skip
ALIAS = {"net.ipv4.ip_forward": CONF + "all.forwarding"}
# Switches the model reads but for which it knows one value only; any other is refused by name.
FIXED = {"arp_ignore": 0, "shared_media": 1}


class Sysctls:
    """The values of one namespace; keys as ``sysctl`` spells them, values whole numbers."""

    def __init__(self) -> None:
        self._values: dict[str, int] = {"net.ipv4.tcp_early_demux": 1}
        for owner in ("all", "default"):
            for key, value in INTERFACE_DEFAULTS.items():
                self._values[f"{CONF}{owner}.{key}"] = value

    def __contains__(self, key: str) -> bool:
        return ALIAS.get(key, key) in self._values

    def __getitem__(self, key: str) -> int:
        return self._values[ALIAS.get(key, key)]

    def names(self) -> list[str]:
        """Every key there is, sorted as ``sysctl -a`` lists them."""
        return sorted([*self._values, *ALIAS])

    def write(self, key: str, value: int) -> None:
        """Set one switch. Turning forwarding on or off for all interfaces does two things more.

        It is copied to ``default`` and to every interface, and accept_redirects of ``all``
        becomes its opposite (net/ipv4/devinet.c, inet_forward_change).
        """
        key = ALIAS.get(key, key)
        changed = self._values[key] != value
        self._values[key] = value
        if key == CONF + "all.forwarding" and changed:
            self._values[CONF + "all.accept_redirects"] = int(not value)
            for name in self._values:
                if name.endswith(".forwarding"):
                    self._values[name] = value

    def add_interface(self, name: str, like: str = "default") -> None:
        """A new interface starts from the values of ``default``."""
        for key in INTERFACE_DEFAULTS:
            self._values[f"{CONF}{name}.{key}"] = self._values[f"{CONF}{like}.{key}"]

    def remove_interface(self, name: str) -> None:
        """Forget an interface that is gone."""
        for key in INTERFACE_DEFAULTS:
            del self._values[f"{CONF}{name}.{key}"]

    def own(self, name: str, key: str) -> int:
        """The interface's own value; ``all`` plays no part (forwarding)."""
        return self._values[f"{CONF}{name}.{key}"]

    def highest(self, name: str, key: str) -> int:
        """The larger of ``all`` and the interface (rp_filter)."""
        return max(self._values[f"{CONF}all.{key}"], self._values[f"{CONF}{name}.{key}"])

    def either(self, name: str, key: str) -> bool:
        """On if ``all`` or the interface is on (send_redirects, route_localnet, proxy_arp …)."""
        return bool(self._values[f"{CONF}all.{key}"] or self._values[f"{CONF}{name}.{key}"])

    def takes_redirects(self, name: str) -> bool:
        """A router needs both switches on to believe a redirect, a host only one of them."""
        both = (self._values[f"{CONF}all.accept_redirects"],
                self._values[f"{CONF}{name}.accept_redirects"])  # fmt: skip
        return all(both) if self.own(name, "forwarding") else any(both)
