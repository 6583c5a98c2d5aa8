"""Who may come through the door, and over what: the token, TLS, and warnings of what is too open. Reads those files."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

from cellvigil import config
from cellvigil.errors import UsageError

_SHORTEST_TOKEN = 16  # characters


def read_token(path: Path | None) -> str:
    """The bearer token in a file; "" without one. Raises UsageError for a file that is not there, or a weak token."""
    if path is None:
        return ""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        what = f"the token cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        raise UsageError(what, where=path, hint="mend metrics.token_file") from None
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        what = f"the token must be one word of at least {_SHORTEST_TOKEN} plain characters"
        raise UsageError(what, where=path, hint="make one with: openssl rand -hex 32")
    return token


def open_tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What the door speaks TLS with (1.2 or newer); None without files. Raises UsageError if they do not fit."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        what = "TLS needs both metrics.tls_cert_file and metrics.tls_key_file"
        raise UsageError(what, where=certificate or key or "", hint="set the other, or neither")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        what = f"the TLS files cannot be used: {getattr(error, 'strerror', None) or error}"
        raise UsageError(
            what, where=certificate, hint="both must be PEM, and the key that of the certificate"
        ) from None
    return context


def warnings_of(metrics: config.Metrics) -> list[str]:
    """What a person should know of how the door is configured: open to others, or secrets that others may read."""
    found = []
    if not _is_local(metrics.listen):
        if metrics.token_file is None:
            found.append(f"metrics.listen {metrics.listen}: anybody who reaches it may read; set metrics.token_file")
        elif metrics.tls_cert_file is None:
            found.append(f"metrics.listen {metrics.listen}: the token travels in clear; set metrics.tls_cert_file")
    secrets = (path for path in (metrics.token_file, metrics.tls_key_file) if path is not None and path.exists())
    open_ones = (path for path in secrets if path.stat().st_mode & 0o077)
    return [*found, *(f"{path} may be read by other users: chmod 600" for path in open_ones)]


def _is_local(listen: str) -> bool:
    try:
        return ipaddress.ip_address(listen).is_loopback
    except ValueError:
        return listen == "localhost"
