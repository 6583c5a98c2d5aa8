"""Whether the sources' folders are there when the service starts. Asks the file system, each folder in its own thread.

A folder that never was there is a mistake in the configuration, and told at once. One that frames came from before is
a share that is away: the service starts all the same, since nine other microscopes may depend on it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from cellvigil import config
from cellvigil.errors import UsageError
from cellvigil.ledger import Ledger
from cellvigil.service.log import LOGGER
from cellvigil.service.pool import joined

_ANSWER_S = 5.0  # a dead mount may never answer


def check_folders(sources: Sequence[config.Source], ledger: Ledger, *, patient: bool) -> None:
    """Raise UsageError for a folder that is not there; where frames came from it before, only warn if `patient`."""
    there = _which_are_there([source.path for source in sources])
    known = {series[0] for series in ledger.series()}
    for source in sources:
        if source.path in there:
            continue
        if not patient or source.name not in known:
            raise UsageError(
                f"the folder of source {source.name} is not there",
                where=source.path,
                hint="mount the share, or mend sources[].path",
            )
        told = {"source": source.name, "path": source.path}
        LOGGER.warning("the folder is away; it is watched for all the same", extra=told)


def _which_are_there(folders: Sequence[Path]) -> set[Path]:
    """The folders that are there; one that does not answer in time is not."""
    found: set[Path] = set()

    def ask(folder: Path) -> None:
        with contextlib.suppress(OSError):  # EIO, ESTALE: a share that is broken is not there
            if folder.is_dir():
                found.add(folder)

    threads = [threading.Thread(target=ask, args=(folder,), name=f"folder {folder}", daemon=True) for folder in folders]
    for thread in threads:
        thread.start()
    joined(threads, time.monotonic() + _ANSWER_S)
    return set(found)
