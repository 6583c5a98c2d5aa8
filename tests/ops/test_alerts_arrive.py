"""From the microscope's files to the message in somebody's inbox, with real programs all the way."""

import re
import subprocess
import threading

from alerting import ROOT, alerting, alertmanager_server, inbox, needs_prometheus, wait_for

from cellvigil.rehearse.cells import Biology
from cellvigil.rehearse.run import run as film
from lab import Lab, small_assay
from prometheus_server import free_port

pytestmark = needs_prometheus

CONTROLS, TREATED = ("A1", "A2", "A3", "A4", "A5"), ("B1", "B2")
ASSAY = small_assay(
    seed=11, wells=(*CONTROLS, *TREATED), treated=TREATED, timepoints=6, minutes=180.0, dosed_at=2, shape=(420, 520),
    cells=45.0, biology=Biology(kill_per_h=1.0, kill_lag_h=0.3),
)  # fmt: skip


FIRST_SEEN = "well:cellvigil_response_onset:first_seen_timestamp_seconds"


def test_a_response_sets_in_the_microscope_stalls_the_daemon_dies_and_the_lab_hears_of_each(lab: Lab):
    microscope = Microscope(ASSAY, lab.root, first=2 * len(ASSAY.wells))
    door = f"127.0.0.1:{free_port()}"
    changes = {
        "source": {"plate_map": "plate.csv", "events": "events.csv", "interval_s": 2.0},
        "alerts": {"control_death": 0.6},  # the tests' small index calls many a live cell apoptotic
        "metrics": {"port": int(door.partition(":")[2])},
    }
    with microscope, lab.service(**changes) as service, alerting(lab.root, [door]) as watch:
        inbox = watch.inbox
        microscope.go_on.set()
        wait_for(lambda: _wells(inbox.named("CellvigilResponseOnset")) >= set(TREATED), service.log, seconds=240)
        service.wait_for(lambda: service.committed() == len(ASSAY.wells) * ASSAY.timepoints, 120, every=0.5)
        told = inbox.named("CellvigilResponseOnset")
        stalled = wait_for(lambda: inbox.named("CellvigilFramesStalled"), service.log)
        assert _wells(inbox.named("CellvigilResponseOnset")) == set(TREATED)
        assert _wells(inbox.named("CellvigilDeadShareHigh")) <= set(TREATED)
        assert {message.receiver for message in told} == {"results"}
        [alert] = [alert for alert in told[-1].alerts if alert["labels"]["well"] == "B1"]
        plate = f"scope/240301_180000_{ASSAY.experiment}/{ASSAY.plate}"
        assert alert["labels"]["plate"] == plate
        assert alert["annotations"]["summary"] == f"{plate}, well B1 (Raptinal 10 uM): the response has set in"
        assert alert["annotations"]["description"].startswith("Onset at 2024-03-02 ")
        assert "after treatment" in alert["annotations"]["description"]
        assert stalled[-1].labels("source") == {"scope"}
        assert not inbox.named("CellvigilDown")
        news = watch.prometheus.query(FIRST_SEEN)
        service.kill()
        [down] = wait_for(lambda: inbox.named("CellvigilDown"))
        assert down.labels("instance") == {door}
        with lab.service(**changes) as again:
            wait_for(lambda: inbox.named("CellvigilDown", "resolved"), again.log)
            known = wait_for(lambda: watch.prometheus.query(FIRST_SEEN), again.log)
    assert {one["metric"]["well"] for one in news} == set(TREATED)
    assert _values(known) == _values(news)  # the onsets are back, and are no news


def test_a_still_microscope_and_a_dead_daemon_are_told_of_and_the_dead_one_silences_the_rest(lab: Lab):
    lab.film(timepoints=1)
    changes = {"interval_s": 2.0, "frame_timeout_s": 1.0}
    with lab.service(source=changes) as service, alerting(lab.root, [service.address.partition("//")[2]]) as watch:
        inbox = watch.inbox
        [stalled] = wait_for(lambda: inbox.named("CellvigilFramesStalled"), service.log)
        assert stalled.receiver == "on-call"
        assert stalled.labels("source") == {"scope"}
        assert stalled.alerts[0]["annotations"]["runbook_url"] == "docs/runbook.md#cellvigilframesstalled"
        assert "one is expected every 2s" in stalled.alerts[0]["annotations"]["description"]
        assert not inbox.named("CellvigilDown")
        refused = 'cellvigil_frames_total{outcome="quarantined"}'
        wait_for(lambda: watch.prometheus.query(refused), service.log)  # it was 0 before
        taken = next(lab.images.rglob("A1_*_001.tif"))
        taken.with_name(taken.name.replace("_001", "_002")).write_bytes(b"no image")
        [quarantine] = wait_for(lambda: inbox.named("CellvigilQuarantine"), service.log)
        assert quarantine.receiver == "lab"
        before = len(inbox.messages)
        service.kill()
        [down] = wait_for(lambda: inbox.named("CellvigilDown"))
        assert down.receiver == "on-call"
        assert down.labels("instance") == {service.address.partition("//")[2]}
        held = wait_for(lambda: _held_back(watch.alertmanager, "CellvigilQuarantine"))
        assert held == watch.alertmanager.alerts()["CellvigilDown"][0]["fingerprint"]
        assert {message.name for message in inbox.messages[before:] if message.status == "firing"} == {"CellvigilDown"}


def test_a_whole_plate_is_one_message_and_a_critical_one_stands_above_its_warnings(tmp_path):
    plate = {"instance": "lab1", "area": "assay", "plate": "scope/run/Plate 1"}
    wells = [f"{row}{column}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
    blurred = [
        {"labels": {**plate, "alertname": "CellvigilFocusLost", "severity": "warning", "well": well}} for well in wells
    ]
    onsets = [
        {"labels": {**plate, "alertname": "CellvigilResponseOnset", "severity": "info", "well": w}} for w in wells
    ]
    critical = {"labels": {**plate, "alertname": "CellvigilPlateOutOfFocus", "severity": "critical"}}
    other = {
        "labels": {**plate, "plate": "scope/run/Plate 2", "alertname": "CellvigilFocusLost", "severity": "warning"}
    }
    with inbox() as box, alertmanager_server(tmp_path, box) as alertmanager:
        alertmanager.post(blurred)
        wait_for(lambda: box.named("CellvigilFocusLost"))
        alertmanager.post([critical])
        wait_for(lambda: box.named("CellvigilPlateOutOfFocus"))
        alertmanager.post([*onsets, other])
        [told] = wait_for(lambda: box.named("CellvigilResponseOnset"))
        assert (told.receiver, told.labels("well")) == ("results", set(wells))
        wait_for(lambda: len(box.named("CellvigilFocusLost")) == 2)
        held = [alert for alert in alertmanager.alerts()["CellvigilFocusLost"] if alert["status"]["inhibitedBy"]]
    first, second = box.named("CellvigilFocusLost")
    assert (first.receiver, first.labels("well")) == ("lab", set(wells))
    assert second.labels("plate") == {"scope/run/Plate 2"}
    assert {alert["labels"]["well"] for alert in held} == set(wells)


class Microscope(threading.Thread):
    """Writes an assay: its first frames at once, since a series' range and focus are fixed by what is there then, and
    the others once it may `go_on`.
    """

    def __init__(self, assay, root, *, first):
        super().__init__()
        self.go_on, self._begun = threading.Event(), threading.Event()
        self._assay, self._root, self._first = assay, root, first

    def run(self):
        film(self._assay, self._root, pieces=2, pause_s=0.01, progress=self._wait)

    def _wait(self, progress):
        if progress.frame == self._first:
            self._begun.set()
            self.go_on.wait()

    def __enter__(self):
        self.start()
        assert self._begun.wait(120)
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.join()


def _values(series):
    return {(one["metric"]["well"], one["value"][1]) for one in series}


def _wells(messages):
    return set().union(*(message.labels("well") for message in messages))


def test_the_runbooks_commands_silence(tmp_path):
    page = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    commands = re.search(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)[1].splitlines()
    plate = {"instance": "127.0.0.1:9108", "plate": "scope/run/Plate 7", "severity": "warning", "area": "assay"}
    dead, uncertain, elsewhere = (
        {**plate, "alertname": "CellvigilDeadShareHigh", "instance": "lab2"},
        {**plate, "alertname": "CellvigilCertaintyLow"},
        {**plate, "alertname": "CellvigilCertaintyLow", "instance": "lab2"},
    )
    with inbox() as box, alertmanager_server(tmp_path, box) as alertmanager:
        for command in commands:
            typed = command.replace("http://127.0.0.1:9093", alertmanager.address)
            done = subprocess.run(typed, shell=True, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
        alertmanager.post([{"labels": labels} for labels in (dead, uncertain, elsewhere)])
        [told] = wait_for(lambda: box.named("CellvigilCertaintyLow"))
        assert told.labels("instance") == {"lab2"}
        silenced = [
            alert["labels"]
            for alerts in alertmanager.alerts().values()
            for alert in alerts
            if alert["status"]["silencedBy"]
        ]
    assert sorted(labels["alertname"] for labels in silenced) == ["CellvigilCertaintyLow", "CellvigilDeadShareHigh"]


def _held_back(alertmanager, name):
    """The fingerprint of the alert that holds back all of these, or None."""
    found = {by for alert in alertmanager.alerts().get(name, ()) for by in alert["status"]["inhibitedBy"]}
    return found.pop() if len(found) == 1 else None
