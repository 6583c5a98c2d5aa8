"""`cellvigil check`: finds everything, touches nothing."""

import json
import os
import socket

import pytest

from cellvigil.cli import main
from lab import Lab


def findings(
    lab: Lab, capsys: pytest.CaptureFixture[str], *, code: int = 0, **changes
) -> dict[str, list[tuple[str, str]]]:
    path = lab.config_file(**changes)
    assert main(["check", "--config", str(path), "--json"]) == code
    found: dict[str, list[tuple[str, str]]] = {}
    for item in json.loads(capsys.readouterr().out):
        found.setdefault(item["subject"], []).append((item["level"], item["text"]))
    return found


def snapshot(lab: Lab) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in lab.root.rglob("*")}


def test_a_good_configuration_passes_and_nothing_is_touched(lab: Lab, capsys):
    lab.film(timepoints=2)
    lab.config_file(source={"interval_s": 3600.0})
    before = snapshot(lab)
    found = findings(lab, capsys, source={"interval_s": 3600.0})
    after = snapshot(lab)
    after.pop(str(lab.root / "config.yaml"))
    before.pop(str(lab.root / "config.yaml"))
    assert after == before
    assert found["scope"][0] == ("ok", f"4 images in {lab.images} fit kind gen5")
    assert "200 x 240 pixels of 0.3220 x 0.3220 um" in found["scope"][1][1]
    assert found["device"][0][0] == "warn"
    assert found["device"][0][1].startswith("cpu (asked for auto)")
    assert all(
        level == "ok" for subject in ("config", "index", "encoder", "store", "metrics") for level, _ in found[subject]
    )


def test_a_machine_that_cannot_keep_up_is_refused_unless_forced(lab: Lab, capsys):
    slow = {"source": {"interval_s": 1.0, "expect": {"wells": 384, "fields": 9, "cells": 1000}}}
    [(level, text)] = findings(lab, capsys, code=1, **slow)["capacity"]
    assert level == "fail"
    assert "cells a second measured" in text
    assert main(["check", "--config", str(lab.config_file(**slow)), "--force"]) == 0


def test_an_easy_assay_is_ok_and_an_unknown_one_is_told_of(lab: Lab, capsys):
    easy = {"source": {"interval_s": 3600.0, "expect": {"wells": 1, "fields": 1, "cells": 10}}}
    assert findings(lab, capsys, **easy)["capacity"][0][0] == "ok"
    assert "interval_s" in findings(lab, capsys)["capacity"][0][1]


def test_a_port_in_use_a_held_store_and_a_missing_folder_are_failures(lab: Lab, capsys):
    with lab.service() as service, socket.socket() as taken:
        assert service.address
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = findings(lab, capsys, code=1, metrics={"port": port}, source={"path": "nowhere"})
        service.terminate()
    assert found["metrics"][0][0] == found["store"][0][0] == found["scope"][0][0] == "fail"


def test_names_that_do_not_fit_are_shown(lab: Lab, capsys):
    (lab.images / "holiday.tif").write_bytes(b"II*\0")
    assert "holiday.tif" in findings(lab, capsys, code=1)["scope"][0][1]


def test_a_missing_index_is_a_finding_and_not_a_crash(lab: Lab, capsys):
    found = findings(lab, capsys, code=1, source={"index": "nothing"})
    assert found["encoders"][0][0] == "fail"
    assert found["store"][0][0] == "ok"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written_is_a_failure(lab: Lab, capsys):
    (lab.root / "closed").mkdir(mode=0o500)
    assert findings(lab, capsys, code=1, store={"path": "closed/store"})["store"][0][0] == "fail"


def test_an_address_that_is_not_ours_is_told_with_what_to_do(lab: Lab, capsys):
    found = findings(lab, capsys, code=1, metrics={"listen": "192.0.2.1", "port": 0, "token_file": "token"})["metrics"]
    assert found[0][0] == "fail"
    assert "mend metrics.token_file" in found[0][1]
    (lab.root / "token").write_text("0123456789abcdef")
    (lab.root / "token").chmod(0o600)
    found = findings(lab, capsys, code=1, metrics={"listen": "192.0.2.1", "port": 0, "token_file": "token"})["metrics"]
    assert "travels in clear" in found[0][1]
    assert "set metrics.listen to an address of this machine" in found[1][1]
    found = findings(lab, capsys, metrics={"port": 0, "token_file": "token"})["metrics"]
    assert found == [("ok", "http://127.0.0.1:0/metrics is free, a token is asked for")]
