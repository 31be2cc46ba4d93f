"""By which names the app is reached, through which proxies, and who asks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from manyhot.errors import InputError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d{1,5})?", re.ASCII)
_LOOPBACK = ("127.0.0.0/8", "::1")


@dataclass(frozen=True)
class Reach:
    """How the app is reached.

    Attributes
    ----------
    address : str
        Where people reach it, ``https://rate.example.org``; empty: as each request says.
    names : frozenset of str, optional
        The names of the machine that requests may be for, in small letters; None: any. Numeric addresses are
        no names: no site can make a browser take one for its own.
    proxies : tuple of networks
        Whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.
    """

    address: str = ""
    names: frozenset[str] | None = None
    proxies: tuple[Network, ...] = ()

    @classmethod
    def of(
        cls,
        host: str,
        address: str | None = None,
        names: Iterable[str] = (),
        proxies: Sequence[str] = (),
    ) -> Reach:
        """Return how an app is reached that listens on an address.

        Parameters
        ----------
        host : str
            What it listens on.
        address : str, optional
            Where people reach it.
        names : iterable of str
            Further names of the machine.
        proxies : sequence of str
            Addresses or networks. Where the app listens on this machine alone and people reach it elsewhere,
            a proxy on this machine is one, too.

        Raises
        ------
        InputError
            The address is none of http or https, or a proxy's is none.
        """
        public = _public(address)
        known = {"localhost", host.lower(), *(name.lower() for name in names)}
        if public:
            known.add(urlsplit(public).hostname or "")
            if _is_loopback(host) and not _is_loopback(urlsplit(public).hostname or ""):
                proxies = [*proxies, *_LOOPBACK]
        return cls(public, frozenset(known), tuple(_network(proxy) for proxy in proxies))

    def admits(self, host: str) -> bool:
        """Return whether a request's Host, in small letters, is one of ours.

        A site that points its own name at us is refused.
        """
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1] or found[2]
        if self.names is None or name in self.names:
            return True
        return _is_numeric(name) or name.endswith(".localhost")

    def is_own(self, origin: str, host: str) -> bool:
        """Return whether an Origin is that of the app's own pages."""
        return origin == self.address or (
            origin.partition("://")[2] == host and origin.startswith(("http://", "https://"))
        )

    def client(self, peer: str, forwarded: str) -> str:
        """Return the address of who asks: the last that no proxy of ours has; of IPv6 its network.

        Parameters
        ----------
        peer : str
            Who is connected.
        forwarded : str
            The request's X-Forwarded-For.
        """
        found = peer
        for one in reversed(forwarded.split(",")):
            if not self.trusts(found) or not _is_numeric(one.strip()):
                break
            found = one.strip()
        return _network_of(found)

    def trusts(self, peer: str) -> bool:
        """Return whether an address is a proxy's."""
        try:
            return any(ipaddress.ip_address(peer) in network for network in self.proxies)
        except ValueError:
            return False

    def is_https(self, scheme: str, peer: str, forwarded: str) -> bool:
        """Return whether who asks speaks HTTPS, with the app or with the proxy before it."""
        if self.address or not (forwarded and self.trusts(peer)):
            return scheme == "https" or self.address.startswith("https://")
        return forwarded.strip().lower() == "https"


def _public(address: str | None) -> str:
    if not address:
        return ""
    found = urlsplit(address)
    if found.scheme not in ("http", "https") or not found.hostname or found.path.strip("/") or found.query:
        raise InputError(
            "This is no address of an app.",
            got=address,
            allowed="https://NAME or http://NAME, with :PORT where it has one",
        )
    return f"{found.scheme}://{found.netloc.lower()}"


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InputError(
            "This is no address of a proxy.", got=text, allowed="an IP address, or a network as 10.0.0.0/8"
        ) from error


def _network_of(address: str) -> str:
    """Return whom limits are for: who has one IPv6 address has the 2⁶⁴ of its network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def _is_numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_numeric(host) and ipaddress.ip_address(host).is_loopback)
