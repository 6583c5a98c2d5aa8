"""What /metrics answers: the registry's counters, rendered at the scrape, and the wells' text, rendered before.

Both formats and gzip are negotiated as prometheus_client does. The wells' text is compressed once, when it changes: a
deflate stream may be put together from parts that each end at a flush, and its checksum runs on over the parts.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

_EOF = b"# EOF\n"
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # RFC 1952: deflate, no name, no time, system unknown
_EMPTY_BLOCK = b"\x03\x00"  # RFC 1951: a final block with nothing in it
_LEVEL = 6


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A piece of an answer, plain and compressed."""

    text: bytes
    deflated: bytes  # raw deflate, ended by a full flush: may be followed by another part


def part(text: bytes, level: int = _LEVEL) -> Part:
    """Compress a text, so that answers can be put together from it."""
    squeeze = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return Part(text, squeeze.compress(text) + squeeze.flush(zlib.Z_FULL_FLUSH) if text else b"")


NOTHING = part(b"")


def gzipped(parts: Iterable[Part]) -> bytes:
    """One gzip file of the parts' texts."""
    checksum = size = 0
    body = []
    for one in parts:
        checksum, size = zlib.crc32(one.text, checksum), size + len(one.text)
        body.append(one.deflated)
    return b"".join([_GZIP_HEADER, *body, _EMPTY_BLOCK, struct.pack("<II", checksum, size & 0xFFFFFFFF)])


def scrape(registry: CollectorRegistry, wells: Callable[[], Part] = lambda: NOTHING) -> WSGIApplication:
    """The application behind /metrics. `wells` gives the text of wells, arms and plates: no metric of the registry.

    As with prometheus_client, `?name[]=` asks for some metrics only.
    """

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            status = "200 OK" if method == "OPTIONS" else "405 Method Not Allowed"
            start(status, [("Content-Type", "text/plain"), ("Allow", "OPTIONS,GET,HEAD")])
            return [b""]
        encoder, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        names = parse_qs(environ.get("QUERY_STRING", "")).get("name[]")
        source = registry.restricted_registry(names) if names else registry
        own, ready = encoder(source), wells()
        ended = own.endswith(_EOF)  # OpenMetrics
        parts = [
            part(own.removesuffix(_EOF)),
            part(chosen(ready.text, names)) if names else ready,
            part(_EOF if ended else b""),
        ]
        headers = [("Content-Type", content_type)]
        if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            headers.append(("Content-Encoding", "gzip"))
            body = gzipped(parts)
        else:
            body = b"".join(one.text for one in parts)
        start("200 OK", [*headers, ("Content-Length", str(len(body)))])
        return [b"" if method == "HEAD" else body]

    return answer


def chosen(text: bytes, names: Collection[str]) -> bytes:
    """Only the metrics of these names."""
    families = text.split(b"# HELP ")[1:]
    return b"".join(b"# HELP " + one for one in families if one.split(b" ", 1)[0].decode() in names)
