"""A machine without internet becomes a Cellvigil machine, under a real systemd: bundle, install, run, kill, upgrade.

The house has no network at all, so nothing can have been fetched; the service runs behind all the walls of its unit.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from house import booted, why_not
from machine_page import commands

ROOT = Path(__file__).parents[2]
PYTHON = Path("/usr/bin/python3")

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=f"a systemd of our own {why_not()}"), pytest.mark.timeout(900)]


def fits_system_python():
    """The bundle's wheels are for one version of Python: that of the system's must be the one that makes it."""
    asked = [PYTHON, "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"]
    told = subprocess.run(asked, capture_output=True, check=False)
    return told.stdout.split() == [str(part).encode() for part in sys.version_info[:2]]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    if not fits_system_python():
        pytest.skip("the system's Python is another version, or lacks python3-venv")
    dist = tmp_path_factory.mktemp("dist")
    subprocess.run([ROOT / "systemd" / "bundle.sh", sys.executable, "cpu", dist], check=True, cwd=ROOT)
    [bundle] = dist.glob("*.tar.gz")
    with booted(tmp_path_factory.mktemp("house") / "work") as house:
        house.path("/root").mkdir(exist_ok=True)
        with bundle.open("rb") as file, house.path("/root/bundle.tar.gz").open("wb") as inside:
            inside.write(file.read())
        house.run("mkdir /root/bundle && tar xzf /root/bundle.tar.gz --strip-components=1 -C /root/bundle")
        yield house


@pytest.fixture(scope="module")
def installed(house):
    """The house after `install.sh`, with a rehearsed microscope and an index; the text that the installer printed."""
    told = house.run("/root/bundle/install.sh --user cellvigil")
    assay = "--wells A1,B1 --treated B1 --timepoints 3 --shape 226x306 --reference"
    house.run(f"cellvigil rehearse --out /srv/scope {assay} && chmod -R a+rX /srv/scope")
    states = "live=alive,apoptotic=dying,necrotic=dead,debris=artefact"
    build = (
        "cellvigil-index build cell-death --coco /srv/scope/reference/annotations.coco.json"
        " --encoder efficientnet-lite0 --encoders /var/lib/cellvigil/encoders --out /var/lib/cellvigil/indexes"
        " --crop-um 28 --mask --cell-diameter 18"
    )
    house.run(f"runuser -u cellvigil -- {build} --states {states}")
    house.run("sed -i 's#path: incoming #path: /srv/scope/images #' /etc/cellvigil/config.yaml")
    house.run("sed -i 's#scan_interval_s: 2.0#scan_interval_s: 0.2#' /etc/cellvigil/config.yaml")
    return told


def fetch(house, path):
    script = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:9108{path}').read().decode())"
    return house.run(f'/opt/cellvigil/current/bin/python -c "{script}"')


def test_the_installer_leaves_a_machine_that_only_lacks_a_microscope(house, installed):
    assert "cellvigil check --config /etc/cellvigil/config.yaml" in installed
    owners = (
        "stat -c '%U:%G %a %n' /var/lib/cellvigil /etc/cellvigil /etc/cellvigil/config.yaml /opt/cellvigil/current/"
    )
    assert house.run(owners).splitlines() == [
        "cellvigil:cellvigil 750 /var/lib/cellvigil",
        "root:cellvigil 750 /etc/cellvigil",
        "root:cellvigil 640 /etc/cellvigil/config.yaml",
        "root:root 755 /opt/cellvigil/current/",
    ]
    assert "nologin" in house.run("getent passwd cellvigil")
    checked = house.run(
        "runuser -u cellvigil -- cellvigil check --config /etc/cellvigil/config.yaml --json", check=False
    )
    assert '"fail"' not in checked[checked.index("[") :] or json.loads(checked)


def test_the_service_says_when_it_is_ready_counts_and_drains(house, installed):
    house.run("systemctl start cellvigil")  # returns once READY=1 came
    assert house.show("cellvigil", "ActiveState") == "active"
    assert house.show("cellvigil", "StatusText") == "working on cpu"
    health = json.loads(fetch(house, "/healthz"))
    assert health["ok"]
    house.run("until runuser -u cellvigil -- cellvigil table --store /var/lib/cellvigil/store --frames --out /tmp/f.csv"
              " && [ $(wc -l < /tmp/f.csv) -eq 7 ]; do sleep 0.5; done", seconds=60)  # fmt: skip
    house.run("systemctl stop cellvigil")
    assert house.show("cellvigil", "Result") == "success"


def test_a_killed_service_comes_back_by_itself(house, installed):
    house.run("systemctl start cellvigil; kill -9 $(systemctl show cellvigil -p MainPID --value)")
    house.wait_for("cellvigil", "NRestarts", "1")
    house.wait_for("cellvigil", "StatusText", "working on cpu")
    house.run("systemctl stop cellvigil")


def test_behind_the_walls_nothing_but_its_own_folder_can_be_written(house, installed):
    """The same unit with another program: it may write its own folder, and nowhere else, whatever the modes say."""
    house.run("chmod 777 /srv/scope/images /opt/cellvigil /etc/cellvigil")
    places = "/srv/scope/images/x /etc/cellvigil/x /opt/cellvigil/x /var/tmp/../x /usr/x"
    script = f"touch /var/lib/cellvigil/mine; for place in {places}; do touch $place && exit 9; done; exit 0"
    house.path("/usr/local/bin/walls").write_text(f"#!/bin/sh\n{script}\n")
    unit = house.path("/etc/systemd/system/cellvigil.service").read_text()
    unit = re.sub("(?m)^ExecStart=.*", "ExecStart=/usr/local/bin/walls", unit).replace("Type=notify", "Type=oneshot")
    unit = unit.replace("Restart=on-failure", "Restart=no")
    house.path("/etc/systemd/system/walls.service").write_text(unit)
    house.run("chmod 755 /usr/local/bin/walls; systemctl daemon-reload; systemctl start walls")
    assert house.show("walls", "ExecMainStatus") == "0"
    assert house.path("/var/lib/cellvigil/mine").exists()
    assert not house.path("/srv/scope/images/x").exists()
    house.run("chmod 755 /srv/scope/images /opt/cellvigil; chmod 750 /etc/cellvigil")


def test_an_upgrade_keeps_configuration_record_and_the_version_before(house, installed):
    before = house.run(
        "readlink /opt/cellvigil/current; sha256sum /etc/cellvigil/config.yaml; ls /var/lib/cellvigil/store"
    )
    house.run("systemctl start cellvigil")
    told = house.run("/root/bundle/install.sh")
    assert "systemctl restart cellvigil" in told
    house.run("systemctl restart cellvigil")
    assert house.show("cellvigil", "ActiveState") == "active"
    after = house.run(
        "readlink /opt/cellvigil/current; sha256sum /etc/cellvigil/config.yaml; ls /var/lib/cellvigil/store"
    )
    assert before.splitlines()[1:] == after.splitlines()[1:]
    assert before.splitlines()[0] != after.splitlines()[0]
    house.run(f"test -x /opt/cellvigil/{before.splitlines()[0]}/bin/cellvigil")
    house.run("systemctl stop cellvigil")


def test_a_second_microscope_gets_an_instance_of_its_own(house, installed):
    house.run("/root/bundle/install.sh --keep-program --instance nanolive")
    config = "/etc/cellvigil/nanolive.yaml"
    house.run(f"sed -i 's#path: incoming #path: /srv/scope/images #; s#port: 9108#port: 9109#' {config}")
    house.run("systemctl start cellvigil cellvigil@nanolive")
    for unit in ("cellvigil", "cellvigil@nanolive"):
        assert house.show(unit, "ActiveState") == "active"
    assert house.path("/var/lib/cellvigil/nanolive/state").is_dir()
    house.run("systemctl stop cellvigil cellvigil@nanolive")


def test_what_cannot_be_is_said_before_anything_is_done(house, installed):
    for arguments, said in (("--user Root!", "no user name"), ("--instance ../up", "no name of an instance")):
        told = house.run(f"/root/bundle/install.sh {arguments} || echo code $?")
        assert said in told
        assert "code 2" in told


def test_what_the_page_of_the_machine_types(house, installed):
    """docs/machine.md, after an upgrade: look, go back, back up, remove; the bundle brings that page, and the rules."""
    house.run("cd /root/bundle && ls docs/machine.md dashboards/*/*.example.yaml dashboards/*/assay.rules.yaml")
    house.run("systemctl start cellvigil")
    assert "in quarantine" in house.run("\n".join(commands("Install")))
    house.run("\n".join(commands("Upgrade, and back")))
    assert house.show("cellvigil", "ActiveState") == "active"
    assert house.run("readlink /opt/cellvigil/current").strip() == "0.1.0"
    house.run("\n".join(commands("Back up")))
    kept = house.run("tar tf /srv/cellvigil-backup.tar")
    assert "etc/cellvigil/config.yaml" in kept
    assert "/journal.jsonl" in kept
    house.run("\n".join(commands("Remove")))
    assert house.run("systemctl show cellvigil -p LoadState --value").strip() == "not-found"
    assert house.run("ls /usr/local/bin | grep cellvigil || true") == ""
    assert house.path("/var/lib/cellvigil/store").is_dir()
