"""A running service takes up plate maps and events, whatever people do to them, and the record keeps them."""

from __future__ import annotations

from cellvigil.cli import main
from lab import Lab

SHEETS = {"source": {"plate_map": "plate.csv", "events": "events.csv"}}


def test_a_running_service_follows_the_sheets_and_the_commands(lab: Lab) -> None:
    lab.film(timepoints=2)
    good = (lab.root / "plate.csv").read_text()
    with lab.service(**SHEETS) as service:
        service.wait_for(lambda: service.committed() == 4)
        design = service.wait_for(lambda: lab.ledger().design(lab.ledger().series()[0]))
        assert design.plan.arm("B1") == "Raptinal 10 uM"
        assert [event.kind for event in design.events] == ["dosed"]
        config = str(lab.root / "config.yaml")
        assert main(["event", "add", "--config", config, "--kind", "medium", "--wells", "A1"]) == 0
        (lab.root / "plate.csv").write_text(good[:-9])  # and somebody saves half of it
        service.wait_for(lambda: len(lab.ledger().design(lab.ledger().series()[0]).events) == 2)
        assert service.value("cellvigil_plate_map_up", source="scope") == 0
        assert service.value("cellvigil_events_up", source="scope") == 1
        assert main(["event", "remove", "--config", config, "1"]) == 0
        (lab.root / "plate.csv").write_text(good.replace(",10,", ",20,"))
        service.wait_for(lambda: lab.ledger().design(lab.ledger().series()[0]).plan.wells["B1"].dose == 20)
        service.wait_for(lambda: len(lab.ledger().design(lab.ledger().series()[0]).events) == 1)
        assert service.value("cellvigil_plate_map_up", source="scope") == 1
        assert service.terminate() == 0


def test_a_wrong_map_at_the_start_costs_no_frame(lab: Lab) -> None:
    frames = lab.film(timepoints=1)
    (lab.root / "plate.csv").write_text("well,role\nnonsense,control\n")
    with lab.service(**SHEETS) as service:
        service.wait_for(lambda: service.committed() == frames)
        service.wait_for(lambda: service.value("cellvigil_plate_map_up", source="scope") == 0)
        assert "'nonsense' is no well" in service.log.read_text()
        assert service.terminate() == 0
    assert main(["check", "--config", str(lab.root / "config.yaml")]) == 1
