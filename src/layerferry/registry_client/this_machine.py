"""Which hosts are this machine, in whichever way they are written."""

import contextlib
import ipaddress
import socket


def is_here(name: str) -> bool:
    """Whether a host is this machine."""
    address = _address(name)
    return address.is_loopback if address else name == "localhost" or name.endswith(".localhost")


def is_near(name: str) -> bool:
    """Whether a host is this machine, or what only this machine reaches: a cloud's metadata, at 169.254.169.254."""
    address = _address(name)
    return is_here(name) or bool(address and (address.is_link_local or address.is_unspecified))


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a host is, in whichever way it is written: 127.1 and 0x7f000001 are 127.0.0.1, too."""
    with contextlib.suppress(OSError, ValueError):
        name = socket.inet_ntoa(socket.inet_aton(name))
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(name)
        return getattr(address, "ipv4_mapped", None) or address
    return None
