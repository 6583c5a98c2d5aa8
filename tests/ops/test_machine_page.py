"""docs/machine.md: its commands work as written, under a real systemd, with Debian's Prometheus and Alertmanager.

What it types about an installed Cellvigil is tried in test_systemd.py.
"""

import shutil
import sys
from pathlib import Path

import pytest
from alerting import needs_prometheus
from house import booted, why_not
from machine_page import commands

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=f"a systemd of our own {why_not()}"), pytest.mark.timeout(300)]


# What Debian's unit of Prometheus asks of the kernel, and a house within namespaces cannot give.
WALLS = "[Service]\nPrivateUsers=no\nPrivateDevices=no\nDevicePolicy=auto\n"


def moved_in(house, lab, port):
    """Start the daemon in the house, on a copy of the lab."""
    shutil.copytree(lab.images, house.path("/srv/lab/images"))
    shutil.copytree(lab.indexes, house.path("/srv/lab/indexes"))
    shutil.copytree(lab.encoders, house.path("/srv/lab/encoders"))
    changes = {"encoder": {"path": "encoders"}, "classify": {"indexes": "indexes"}, "metrics": {"port": port}}
    shutil.copy(lab.config_file(**changes), house.path("/srv/lab/config.yaml"))
    house.run(
        f"systemd-run --unit cellvigil -p Type=notify {sys.executable} -m cellvigil run --config /srv/lab/config.yaml"
    )


@needs_prometheus
def test_the_watch_is_set_up_as_the_page_says(lab, tmp_path_factory):
    lab.film(timepoints=1)
    with booted(tmp_path_factory.mktemp("house") / "work") as house:
        moved_in(house, lab, 9108)
        drop_in = house.path("/etc/systemd/system/prometheus.service.d")
        drop_in.mkdir(parents=True)
        (drop_in / "walls.conf").write_text(WALLS)
        *steps, asks, tries = commands("Prometheus and Alertmanager")
        told = house.run("\n".join([f"cd {ROOT}", *steps]))
        assert "SUCCESS: 2 rule files found" in told
        assert "3 receivers" in told
        house.run(f"until {asks} | grep -q '=> 1 @'; do sleep 0.5; done", seconds=60)
        house.run(f"until {tries}; do sleep 0.5; done", seconds=30)
        held = "amtool --alertmanager.url http://127.0.0.1:9093 alert query alertname=CellvigilTest"
        house.run(f"until {held} | grep -q CellvigilTest; do sleep 0.5; done", seconds=30)
        retention = "/bin/cat /proc/$(pidof prometheus)/cmdline"
        assert "--storage.tsdb.retention.time=400d" in house.run(retention)
