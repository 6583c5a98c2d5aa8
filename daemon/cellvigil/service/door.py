"""What /, /metrics and /healthz answer while the service runs. Listens on one port, and reads the others' figures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from cellvigil import access, page
from cellvigil.metrics.exposition import scrape
from cellvigil.service.log import LOGGER
from cellvigil.service.showing import Parts, Showing

STALE_S = 600.0
"""A beat older than this is no health: a large frame on a CPU takes minutes."""


@contextlib.contextmanager
def open_door(parts: Parts) -> Iterator[None]:
    """Open while the block runs. Raises UsageError if address, token or TLS cannot be had."""
    settings, tally, showing = parts.settings.metrics, parts.tally, Showing(parts)

    def health() -> tuple[bool, Mapping[str, Any]]:
        age = parts.pulse.age_s
        figures = {
            "heartbeat_age_s": round(age, 1),
            "backlog_frames": sum(feed.backlog for feed in parts.feeds),
            "device": parts.kitchen.provider,
            "paused": parts.pause.reason,
        }
        return age < STALE_S, figures

    pages: Mapping[str, page.Page] = {"/": showing.page, "/frame.jpg": showing.picture}
    token = access.read_token(settings.token_file)
    tls = access.open_tls(settings.tls_cert_file, settings.tls_key_file)
    for text in access.warnings_of(settings):
        LOGGER.warning(text)
    app = page.application(scrape(parts.metrics.registry, lambda: tally.snapshot.scrape), health, token, pages)
    with page.served(app, listen=settings.listen, port=settings.port, tls=tls) as port:
        LOGGER.info(f"serving {'https' if tls else 'http'}://{settings.listen}:{port}/")
        yield
