"""Who may ask, and how often: the same for pages, REST and gRPC."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from functools import lru_cache

from services.common.settings import Settings, SettingsError

COOKIE = "mindstream_session"
SESSION_SECONDS = 12 * 3600
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Clients that are remembered; whoever is forgotten begins anew.
_CLIENTS = 10_000


class Gate:
    """Authentication and rate limit by the settings."""

    def __init__(self, settings: Settings) -> None:
        """Raise where the settings would let strangers in.

        Raises:
            SettingsError: one line that says which setting, and what to do.
        """
        self.how = settings.explorer_auth
        self._token = settings.explorer_token.get_secret_value().encode()
        grpc_host = settings.explorer_grpc_bind.rpartition(":")[0].strip("[]")
        if self.how == "token" and not self._token:
            raise SettingsError(
                "MINDSTREAM_EXPLORER_TOKEN is empty: set one (openssl rand -hex 32), or MINDSTREAM_EXPLORER_AUTH=proxy "
                "behind a proxy that asks who comes, or =off on loopback"
            )
        hosts = [settings.explorer_host, *([grpc_host] if settings.explorer_grpc_bind else [])]
        for host in hosts if self.how == "off" else ():
            if not is_loopback(host):
                raise SettingsError(
                    f"MINDSTREAM_EXPLORER_AUTH=off is for loopback only, and {host or 'every address'} is not: "
                    "set it to token or proxy"
                )
        self._buckets = Buckets(settings.explorer_rate)

    def admits(self, authorization: str, session: str = "") -> bool:
        """Whether a request with this `Authorization` header, or this session cookie, may pass."""
        if self.how != "token":
            return True
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return self._opened(session) is not None

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes as long whatever it is."""
        return bool(self._token) and secrets.compare_digest(given.encode("utf-8", "replace"), self._token)

    def session(self, person: str = "") -> str:
        """A session cookie for who has shown the token, and as whom (a hash, or nothing); another token ends it."""
        until = int(time.time()) + SESSION_SECONDS
        return f"{until}.{person}.{self._sign(f'{until}.{person}')}"

    def person(self, session: str) -> str:
        """As whom a session was begun; empty where nobody said, or it is none."""
        return self._opened(session) or ""

    def knows_host(self, host: str) -> bool:
        """Whether a `Host` header may be ours: without authentication only loopback's own names are, or any page of
        the web could have a browser ask us by a name that it has pointed here.
        """
        return self.how != "off" or is_loopback(host.rpartition(":")[0] if _has_port(host) else host)

    def wait(self, client: str) -> float:
        """Seconds until a client's request may pass; 0 now, and it is counted."""
        return self._buckets.take(_network(client))

    def _opened(self, session: str) -> str | None:
        """The person of a session; None where it is none of ours, or over."""
        said, _, signature = session.rpartition(".")
        if not secrets.compare_digest(signature.encode("utf-8", "replace"), self._sign(said).encode()):
            return None
        until, _, person = said.partition(".")
        return person if time.time() < int(until) else None

    def _sign(self, said: str) -> str:
        return hmac.new(self._token, f"session {said}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


class Buckets:
    """A token bucket for each client: `rate` a second, twice as many at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._size = max(1.0, 2 * rate)
        #: Tokens left, and when that was; who came last is last.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Take one; seconds until there is one where there is none, 0 where it was taken."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        left, at = self._left.pop(client, (self._size, now))
        left = min(self._size, left + (now - at) * self._rate)
        taken = left >= 1
        self._left[client] = (left - 1 if taken else left, now)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._rate


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    host = host.strip("[]").lower()
    if host in _LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]") and (host.startswith("[") or host.count(":") == 1)


@lru_cache(1024)
def _network(client: str) -> str:
    """Who a client is: its address, of IPv6 its network of 64 bits."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == 6 and address.ipv4_mapped:  # Of IPv4, on a socket that listens for both.
        address = address.ipv4_mapped
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
