"""Picture files: fetched under an allowlist, from public addresses, and bounded."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from functools import cache
from urllib.parse import urljoin, urlsplit

import httpx
from mindstream.events.v1 import dead_letter_pb2 as reasons

from services.common.errors import EventFault, Parked
from services.common.records import decimal
from services.common.settings import Settings

_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
#: IPv4 behind a translator (RFC 6052), and the only IPv6 addresses that are public (RFC 4291).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")


def fault(message: str) -> EventFault:
    """What a picture does wrong."""
    return EventFault(reasons.DEAD_LETTER_REASON_IMAGE, message)


def _later(message: str) -> Parked:
    return Parked(reasons.DEAD_LETTER_REASON_IMAGE, message)


def allowed_host(host: str, settings: Settings) -> bool:
    """Whether the allowlist names a host, which is ASCII (as DNS has it)."""
    names = [_ascii(name.strip()) for name in settings.image_allowed_hosts.split(",") if name.strip()]
    host = host.lower().rstrip(".")
    return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in names)


def _ascii(name: str) -> str:
    try:
        return name.encode("idna").decode().lower()
    except UnicodeError:  # No host has this name.
        return name


def allowed_address(address: str, settings: Settings) -> bool:
    """Whether an IP address is a public one (IPv4 inside IPv6 is looked at as IPv4)."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        inner = nat64 or ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        ip = inner or ip
    # The module counts more of IPv6 as global than was ever given out (fec0::/10, ::10.0.0.1).
    outside = isinstance(ip, ipaddress.IPv6Address) and ip not in _UNICAST
    return settings.image_allow_private or (ip.is_global and not ip.is_multicast and not outside)


async def fetch(url: str, settings: Settings) -> bytes:
    """The file behind a URL; every hop is checked, its address resolved once and kept to.

    Raises:
        EventFault: the URL is not allowed, or what it names is no picture of allowed size.
        Parked: it may answer later.
    """
    try:
        async with asyncio.timeout(settings.image_timeout_seconds):
            for _ in range(_REDIRECTS + 1):
                content, url = await _hop(url, settings)
                if content is not None:
                    return content
    except (TimeoutError, httpx.TransportError) as error:
        raise _later(f"picture does not answer: {url[:200]} ({type(error).__name__})") from None
    except (httpx.InvalidURL, ValueError):
        raise fault(f"not a URL, or a redirect to none: {url[:200]!r}") from None
    raise fault(f"more than {_REDIRECTS} redirects")


@cache
def _tls() -> ssl.SSLContext:
    """The trusted authorities, read once: that takes longer than a small picture."""
    return httpx.create_ssl_context()


async def _hop(url: str, settings: Settings) -> tuple[bytes | None, str]:
    """One request: the content, or where to go next."""
    host, named, pinned = await _pinned(url, settings)
    transport = httpx.AsyncHTTPTransport(verify=_tls(), retries=0)
    async with httpx.AsyncClient(transport=transport, timeout=settings.image_timeout_seconds) as client:
        # Not compressed: a few kilobytes of gzip in gzip are gigabytes before anyone has counted them.
        headers = {"Host": named, "Accept-Encoding": "identity"}
        extensions = {"sni_hostname": host}
        async with client.stream("GET", pinned, headers=headers, extensions=extensions) as answer:
            if answer.has_redirect_location:
                return None, urljoin(url, answer.headers["location"])
            if answer.status_code >= 500 or answer.status_code in (408, 429):
                raise _later(f"picture answers {answer.status_code}: {url[:200]}")
            if answer.status_code != 200:
                raise fault(f"picture answers {answer.status_code}: {url[:200]}")
            if (encoding := answer.headers.get("content-encoding", "identity")).lower() != "identity":
                raise fault(f"picture comes encoded as {encoding[:50]!r}, which was not asked for: {url[:200]}")
            content, announced = bytearray(), decimal(answer.headers.get("content-length", ""), 2**63) or 0
            async for part in answer.aiter_raw():
                content += part
                if max(len(content), announced) > settings.image_max_bytes:
                    raise fault(f"picture of more than {settings.image_max_bytes} bytes: {url[:200]}")
            return bytes(content), url


async def _pinned(url: str, settings: Settings) -> tuple[str, str, str]:
    """The URL's host, what it is called in a Host header, and the URL with the host's checked address in its place."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except UnicodeError:
        raise fault(f"not a host name: {url[:200]!r}") from None
    except ValueError:
        raise fault(f"not a URL: {url[:200]!r}") from None
    if parts.scheme not in _PORTS or "@" in parts.netloc:
        raise fault(f"only http and https without credentials: {url[:200]!r}")
    if not allowed_host(host, settings):
        raise fault(f"host {host[:100]!r} is not in MINDSTREAM_IMAGE_ALLOWED_HOSTS")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port or _PORTS[parts.scheme], type=socket.SOCK_STREAM
        )
    except OSError:
        raise _later(f"host {host[:100]!r} has no address") from None
    addresses = [str(info[4][0]) for info in found]
    if not all(allowed_address(address, settings) for address in addresses):
        raise fault(f"host {host[:100]!r} is on a private network")
    pinned = parts._replace(netloc=_authority(addresses[0], port)).geturl()
    return host, _authority(host, port), pinned


def _authority(host: str, port: int | None) -> str:
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
