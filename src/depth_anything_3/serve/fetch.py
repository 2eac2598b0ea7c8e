"""Images from URLs, without becoming the hand with which a client reaches into our own network.

The name of a host is looked up once per hop; every address it has must be public; the connection goes to the address
that was checked, so that a name server cannot answer differently the second time. Redirects are hops like any other.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from depth_anything_3.errors import DA3Error
from depth_anything_3.serve.intake import TooLargeError
from depth_anything_3.serve.settings import Limits

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PIECE = 1 << 16
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))

# Special-purpose networks (RFC 6890 and later) that the ipaddress module of some Python versions calls global.
_SPECIAL = (
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("192.88.99.0/24"),
    ipaddress.ip_network("2001::/23"),
    ipaddress.ip_network("5f00::/16"),
)

Dial = Callable[[str, int, float], socket.socket]
Resolve = Callable[[str, int], list[str]]


class FetchError(DA3Error, ValueError):
    """A URL may not be fetched, or what came is no image."""


@dataclass(frozen=True)
class Fetched:
    """What lay behind a URL: the last part of its path, and the bytes."""

    name: str
    content: bytes


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchError(f"{host!r} has no address") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def dial(address: str, port: int, timeout: float) -> socket.socket:
    """Connect to an address."""
    return socket.create_connection((address, port), timeout)


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet, also behind the ways of writing IPv4 in IPv6."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if any(ip in network for network in _NAT64):
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if int(ip) >> 32 == 0:  # ::a.b.c.d, long abandoned
            return False
        if any(entry is not None and not is_public(str(entry)) for entry in inner):
            return False
    if any(ip in network for network in _SPECIAL):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


class Fetcher:
    """Fetches images.

    Args:
        limits: ``url_bytes``, ``url_seconds`` and ``url_redirects`` of one image.
        resolve, dial: how names become addresses, and addresses connections; tests put their own in their place.
    """

    def __init__(self, limits: Limits, *, resolve: Resolve = resolve, dial: Dial = dial) -> None:
        self._limits, self._resolve, self._dial = limits, resolve, dial

    def fetch(self, url: str) -> Fetched:
        """The image behind a URL.

        Raises:
            FetchError: the URL is not plain http or https on its usual port, or a host on the way has an address that
                is not public, or the answer is no image.
            TooLargeError: it is larger than the limit.
        """
        end = time.monotonic() + self._limits.url_seconds
        for _ in range(self._limits.url_redirects + 1):
            parts = _checked(url)
            connection = self._connect(parts, end)
            try:
                target = parts.path + (f"?{parts.query}" if parts.query else "")
                headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "depth-anything-3"}
                connection.request("GET", target or "/", headers=headers)
                answer = connection.getresponse()
                if answer.status not in _REDIRECTS:
                    name = unquote(parts.path.rpartition("/")[2]) or "image"
                    return Fetched(name, self._content(answer, connection, end))
                url = urljoin(url, answer.getheader("Location") or "")
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, DA3Error):
                    raise
                raise FetchError(f"{parts.hostname} did not answer as it should") from None
            finally:
                connection.close()
        raise FetchError(f"more than {self._limits.url_redirects} redirects")

    def _connect(self, parts: SplitResult, end: float) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", _PORTS[parts.scheme]
        addresses = self._resolve(host, port)
        if not addresses or not all(is_public(address) for address in addresses):
            raise FetchError(f"{host!r} is not a host of the open internet")
        try:
            raw = self._dial(addresses[0], port, max(0.1, end - time.monotonic()))
            if parts.scheme == "https":
                raw = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        except OSError:
            raise FetchError(f"{host} cannot be reached") from None
        connection = http.client.HTTPConnection(host, port)
        connection.sock = raw
        return connection

    def _content(self, answer: http.client.HTTPResponse, connection: http.client.HTTPConnection, end: float) -> bytes:
        kind = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        if answer.status != 200 or not kind.startswith("image/"):
            raise FetchError(f"the URL does not lead to an image (status {answer.status}, {kind or 'no type'})")
        if (answer.getheader("Content-Encoding") or "identity").lower() != "identity":
            raise FetchError("the image comes compressed in a way that was not asked for")
        pieces: list[bytes] = []
        count = 0
        while True:
            remaining = end - time.monotonic()
            if remaining <= 0:
                raise FetchError(f"the image did not come within {self._limits.url_seconds:g} seconds")
            if connection.sock is not None:
                connection.sock.settimeout(remaining)
            if not (piece := answer.read1(_PIECE)):
                return b"".join(pieces)
            count += len(piece)
            if count > self._limits.url_bytes:
                raise TooLargeError(f"the image is larger than {self._limits.url_bytes} bytes, the most for a URL")
            pieces.append(piece)


def _checked(url: str) -> SplitResult:
    """Split a URL that has nothing to hide."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FetchError("not a URL") from None
    if parts.scheme not in _PORTS or not parts.hostname or len(url) > 4000:
        raise FetchError("only http and https URLs are fetched")
    if port not in (None, _PORTS[parts.scheme]) or parts.username is not None or parts.password is not None:
        raise FetchError("URLs with a port, a user name or a password are not fetched")
    if any(ord(character) <= 32 or ord(character) == 127 for character in url) or not url.isascii():
        raise FetchError("URLs with blanks, control or non-ASCII characters are not fetched")
    return parts
