"""What /metrics and /healthz answer while the service runs. Listens on one port, and reads the others' figures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cellvigil import config, page
from cellvigil.metrics import Metrics
from cellvigil.service.feed import Feed
from cellvigil.service.log import LOGGER
from cellvigil.service.notify import Pulse
from cellvigil.service.opening import Kitchen
from cellvigil.service.pause import Pause

STALE_S = 600.0
"""A beat older than this is no health: a large frame on a CPU takes minutes."""


@contextlib.contextmanager
def open_door(
    settings: config.Metrics,
    metrics: Metrics,
    *,
    feeds: Sequence[Feed],
    kitchen: Kitchen,
    pulse: Pulse,
    pause: Pause,
) -> Iterator[None]:
    """/metrics and /healthz, open while the block runs. Raises UsageError if address, token or TLS cannot be had."""

    def health() -> tuple[bool, Mapping[str, Any]]:
        age = pulse.age_s
        figures = {
            "heartbeat_age_s": round(age, 1),
            "backlog_frames": sum(feed.backlog for feed in feeds),
            "device": kitchen.provider,
            "paused": pause.reason,
        }
        return age < STALE_S, figures

    token = page.read_token(settings.token_file)
    tls = page.open_tls(settings.tls_cert_file, settings.tls_key_file)
    for text in page.warnings_of(settings):
        LOGGER.warning(text)
    app = page.application(metrics.registry, health, token)
    with page.served(app, listen=settings.listen, port=settings.port, tls=tls) as port:
        LOGGER.info(f"serving {'https' if tls else 'http'}://{settings.listen}:{port}/metrics")
        yield
