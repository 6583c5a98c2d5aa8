"""Run as a program: kills a real writer process again and again, and says what the store kept.

    python tests/store_killer.py STORE KILLS SEED

Each round forks a writer that opens the store and commits at full speed, one by one and in groups, telling each frame
once its call returned; it is killed with SIGKILL after a random moment. The next round's writer recovers what that
left. Prints JSON: the frames that were told, by key.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from cellvigil.store.writer import Filing, open_store
from store_records import SERIES, key, record

WELLS = ("A1", "B2", "C3")


def write_until_killed(store_path: Path, told: int) -> None:
    store = open_store(store_path)
    broken = max((frame.key.timepoint for frame in store.ledger.frames(SERIES)), default=0)  # the last round goes on
    for timepoint in range(broken, broken + 10_000):
        size = len(WELLS) if timepoint % 2 else 1  # every second round in one group
        for begin in range(0, len(WELLS), size):
            group = WELLS[begin : begin + size]
            store.append_all([Filing(record(key(well, timepoint))) for well in group])
            os.write(told, "".join(f"{well} {timepoint}\n" for well in group).encode())
        store.publish(SERIES)


def main() -> None:
    store_path, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    moments = random.Random(seed)
    told: list[str] = []
    for _ in range(kills):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            write_until_killed(store_path, writing)
        os.close(writing)
        select.select([reading], [], [], 20)  # at least one frame, so that every round gets somewhere
        time.sleep(moments.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reading) as lines:
            told += [line.strip() for line in lines if line.endswith("\n")]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
