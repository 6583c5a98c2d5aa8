"""PromQL as the panels need it: what was chosen, held over gaps, joined to arms and doses. Pure.

Values are held for `$hold`: gauges that were back-filled at their acquisition times lie further apart than the five
minutes for which Prometheus looks back by itself. Nothing here is a `rate()` over minutes: a microscope takes a frame
every few minutes or hours.
"""

from __future__ import annotations

DAEMON = 'instance=~"$instance"'
PLATE = f'{DAEMON},plate="$plate"'
SOURCE = f'{DAEMON},source=~"$source"'
WELLS = 'well=~"$well"'


def select(metric: str, *matchers: str) -> str:
    """A selector of a metric of ours: `cellvigil_<metric>{...}`."""
    return f"cellvigil_{metric}{{{','.join(matchers)}}}"


def held(metric: str, *matchers: str, by: str, over: str = PLATE) -> str:
    """The newest value within `$hold` of each `by`; instance and job fall away, so back-filled and live values join."""
    return f"max by ({by}) (last_over_time({select(metric, over, *matchers)}[$hold]))"


def info(*matchers: str) -> str:
    """`well_info`, one series a well even while a changed plate map is still held beside the new one."""
    now = select("well_info", PLATE, *matchers)
    return f"topk by (well) (1, {now} or on (well) last_over_time({now}[$hold]))"


def of_arms(expr: str) -> str:
    """The wells in `expr` of the chosen arms, with the arm as a label; wells that no plate map knows stay, without."""
    others = info('arm!~"$arm"')
    shown = f"({expr} unless on (well) {others})"
    return f"{shown} * on (well) group_left (arm) {info()} or on (well) {shown}"


def of_wells(metric: str, *matchers: str, by: str = "well") -> str:
    """A metric's value of each chosen well of the chosen arms; `by` names well among others."""
    return of_arms(held(metric, WELLS, *matchers, by=by))


def of_groups(groups: str, *matchers: str) -> str:
    """The share of each well's cells that are in these groups ("dying|dead"), as called: what the alerts go by."""
    shares = held("state_share", 'estimate="plain"', *matchers, by="well, state")
    of_them = held("state_info", f'group=~"{groups}"', by="state")
    return f"sum by (well) ({shares} * on (state) group_left () {of_them})"


def on_plate(expr: str) -> str:
    """`expr`, by well, with row and column, which sort as texts: " A" to " Z" before "AA", "02" before "10"."""
    places = (
        ("row", " $1", "([A-Z])[0-9]+"),
        ("row", "$1", "([A-Z]{2})[0-9]+"),
        ("column", "0$1", "[A-Z]+([0-9])"),
        ("column", "$1", "[A-Z]+([0-9]{2})"),
    )
    for label, text, pattern in places:
        expr = f'label_replace({expr}, "{label}", "{text}", "well", "{pattern}")'
    return expr


def by_dose(expr: str, label: str) -> str:
    """`expr`, by `label` (well or arm), with compound and dose: of "10 uM" the number."""
    dosed = info('dose!=""', 'compound=~"$compound"')
    plan = dosed if label == "well" else f"topk by ({label}) (1, {dosed})"
    number = f'label_replace({plan}, "dose", "$1", "dose", "([-+0-9.eE]+).*")'
    return f"{expr} * on ({label}) group_left (compound, dose) {number}"


def threshold(alert: str) -> str:
    """The limit that the alert rules work with, as the daemon publishes it."""
    return f'max(cellvigil_alert_threshold{{{DAEMON},alert="{alert}"}})'


def increase(metric: str, window: str, *matchers: str, by: str) -> str:
    """How much a counter grew in `window`."""
    return f"sum by ({by}) (increase({select(metric, *matchers)}[{window}]))"


def quantile(q: float, metric: str, window: str, *matchers: str, by: str = "") -> str:
    """A quantile of what a histogram saw in `window`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q:g}, {increase(f'{metric}_bucket', window, *matchers, by=labels)})"
