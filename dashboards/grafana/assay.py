"""The rows of *Experiment* that show the biology: states, the plate, the response. Pure."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as sdk

from dashboards.grafana.charts import band, beside, curves, group_colours
from dashboards.grafana.parts import BLUE, LIMIT, Query, Row, fixed, override
from dashboards.grafana.queries import WELLS, held, of_arms, of_groups, of_wells, on_plate, threshold
from dashboards.grafana.tables import grid, plate_map

_ARMS = 'arm=~"$arm"'
_STATE = ('state="$state"', 'estimate="$estimate"')
_ENDS = ("", "_low", "_high")
_MAIN = override("byFrameRefID", "A", color=fixed(BLUE))
_DATE = "dateTimeAsIso"


def rows() -> list[Row]:
    """From the states to the response."""
    return [_states(), _plate(), _response()]


def _states() -> Row:
    by_arm = [held(f"arm_share{end}", _ARMS, *_STATE, by="arm") for end in _ENDS]
    plain = held("arm_share", _ARMS, _STATE[0], 'estimate="plain"', by="arm")
    cells = f"sum by (state) ({held('cells', WELLS, by='well, state')})"
    group = f"topk by (state) (1, {held('state_info', by='state, group')})"  # an index swap may move a state
    named = f"{cells} * on (state) group_left (group) {group}"
    unknown = f'label_replace({cells} unless on (state) {group}, "group", "unknown", "", "")'
    return Row(
        "States",
        [
            curves(
                "Share of $state by arm",
                "Share of the cells (alive, dying and dead) that are $state, in each arm, $estimate. Intervals: arm by "
                "arm below. Empty: no plate map, or no correction (choose plain).",
                [Query(by_arm[0], "{{arm}}")],
                size=(14, 10),
                span=(0, 1),
            ),
            _arms(by_arm),
            curves(
                "$arm: share of $state",
                "One arm: $estimate with its 95 % interval as a band; dashed: plain, as called.",
                [
                    Query(by_arm[0], "$estimate"),
                    Query(by_arm[1], "low"),
                    Query(by_arm[2], "high"),
                    Query(plain, "as called"),
                ],
                size=(24, 7),
                span=(0, 1),
                repeat="arm",
                overrides=[*band("low", "high", BLUE), _MAIN, beside("D")],
            ),
            curves(
                "Cells of the chosen wells by state",
                "How many cells are called what in the chosen wells together. Colours are those of the groups: alive "
                "green, dying orange, dead red, artefact blue, unknown grey. Empty: no value yet.",
                [Query(f"{named} or {unknown}", "{{state}} ({{group}})")],
                unit="short",
                overrides=group_colours(),
                size=(8, 9),
            ),
            curves(
                "Share of $state by well",
                "The chosen wells one by one: choose few. Empty: no correction (choose plain).",
                [Query(of_wells("state_share", *_STATE), "{{well}} {{arm}}")],
                span=(0, 1),
                size=(8, 9),
            ),
            curves(
                "Dead cells by well",
                "Share of the cells that are in a dead state, as called. The grey line: where the alert begins "
                "(alerts.dead_share), once it lasts for alerts.dead_timepoints. Empty: no value yet.",
                [
                    Query(of_arms(of_groups("dead", WELLS)), "{{well}} {{arm}}"),
                    Query(threshold("dead_share"), LIMIT),
                ],
                span=(0, 1),
                size=(8, 9),
            ),
        ],
    )


def _arms(share: list[str]) -> sdk.Panel:
    response = [held(f"arm_response_ratio{end}", _ARMS, by="arm") for end in _ENDS]
    figures = {"Share": share[0], "from": share[1], "to": share[2]}
    figures |= {"Response": response[0], "from ": response[1], "to ": response[2]}  # a title stands once
    return grid(
        "Arms, newest values",
        "Wells of each arm, and how many of them have an onset; its share of $state, $estimate, and its response, each "
        "with the ends of its 95 % interval, from the spread between wells. A gap: one well only, no correction, not "
        "treated, or no controls.",
        [
            Query(held("arm_wells", _ARMS, by="arm"), "Wells"),
            Query(held("arm_onset_wells", _ARMS, by="arm"), "Onsets"),
            *(Query(expr, title) for title, expr in figures.items()),
        ],
        labels={"arm": "Arm"},
        columns={title: {"unit": "percentunit", "decimals": 0} for title in figures},
        order=("Arm", False),
        size=(10, 10),
    )


def _plate() -> Row:
    share = held("state_share", *_STATE, by="well")
    how = "Wells where they lie; blue is low, red is high. No colour: no value."
    return Row(
        "The plate, newest values",
        [
            plate_map("Dead cells", f"{how} Share of cells in a dead state, as called.", on_plate(of_groups("dead"))),
            plate_map(
                "Response",
                f"{how} 0: as many live cells as in the controls; 1: none left; below 0: more. Empty: no plate map, "
                "no controls, or not treated yet.",
                on_plate(held("response_ratio", by="well")),
                span=(-0.5, 1),
            ),
            plate_map("Share of $state", f"{how} $estimate. Empty: no correction (choose plain).", on_plate(share)),
            plate_map("Unknown cells", f"{how} Share called unknown.", on_plate(held("unknown_ratio", by="well"))),
        ],
    )


def _response() -> Row:
    by_arm = [held(f"arm_response_ratio{end}", _ARMS, by="arm") for end in _ENDS]
    none = "Empty: no plate map, no control wells, or not treated yet."
    return Row(
        "Response to treatment",
        [
            curves(
                "Response by arm",
                "1 - live cells over those at treatment, against the controls at that time. 0: as the "
                f"controls; 1: none left. Intervals: arm by arm below. {none}",
                [Query(by_arm[0], "{{arm}}")],
                size=(12, 10),
            ),
            curves(
                "Live index by arm",
                "Live cells over those at treatment, mean of the arm's wells: 1 = as many; the controls' rise is their "
                f"growth. {none}",
                [Query(held("arm_live_index_ratio", _ARMS, by="arm"), "{{arm}}")],
                size=(12, 10),
            ),
            curves(
                "$arm: response",
                f"One arm, with its 95 % interval as a band. {none}",
                [Query(expr, name) for expr, name in zip(by_arm, ("response", "low", "high"), strict=True)],
                size=(24, 7),
                repeat="arm",
                overrides=[*band("low", "high", BLUE), _MAIN],
            ),
            curves(
                "Live index by well",
                "Live cells over those at treatment: 1 = as many, counts and not shares, since dead cells detach. "
                "Empty: no treatment time.",
                [Query(of_wells("live_index_ratio"), "{{well}} {{arm}}")],
                size=(8, 9),
            ),
            curves(
                "Response by well",
                f"The chosen wells one by one. {none}",
                [Query(of_wells("response_ratio"), "{{well}} {{arm}}")],
                size=(8, 9),
            ),
            curves(
                "Growth rate (GR) by well",
                "1: grows as the controls; 0: stands still; below 0: shrinks. Empty: suspension cells, or controls "
                "that have grown by less than a tenth.",
                [Query(of_wells("growth_rate_ratio"), "{{well}} {{arm}}")],
                unit="none",
                size=(8, 9),
            ),
            _onsets(),
        ],
    )


def _onsets() -> sdk.Panel:
    onset, treated = of_wells("response_onset_timestamp_seconds"), held("treated_timestamp_seconds", by="well")
    return grid(
        "Onsets",
        "Wells that respond, and since when: the time point at which the evidence passed the limit that keeps false "
        "onsets on the whole plate below response.false_onset. Empty: no well responds.",
        [
            Query(f"({onset}) * 1000", "Onset"),
            Query(f"{treated} * 1000 and on (well) ({onset})", "Treated"),
            Query(f"{held('response_onset_timestamp_seconds', WELLS, by='well')} - on (well) {treated}", "After"),
            Query(f"({of_wells('response_ratio')}) and on (well) ({onset})", "Response now"),
        ],
        labels={"well": "Well", "arm": "Arm"},
        columns={
            "Onset": {"unit": _DATE},
            "Treated": {"unit": _DATE},
            "After": {"unit": "dthms"},
            "Response now": {"unit": "percentunit", "decimals": 0},
        },
        order=("Onset", False),
    )
