"""The page: sections under each other, linked from the top, with all it needs inside. Findings in, one string out.

Its Content-Security-Policy forbids every request, so that a reference to the network would be an error in the
browser's console, where a test looks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cellvigil.markup import Html, joined, tag
from cellvigil_indexes.report.findings import Findings
from cellvigil_indexes.report.markup import para
from cellvigil_indexes.report.section_alignment import alignment
from cellvigil_indexes.report.section_calls import evaluation
from cellvigil_indexes.report.section_certainty import certainty
from cellvigil_indexes.report.section_examples import examples
from cellvigil_indexes.report.section_index import classes, origin, overview
from cellvigil_indexes.report.section_spaces import encoders, projections, similarities
from cellvigil_indexes.report.section_tuning import tuning
from cellvigil_indexes.report.style import STYLE

SECTIONS: tuple[tuple[str, str, Callable[[Findings], Html]], ...] = (
    ("overview", "Overview", overview),
    ("classes", "Classes and cells", classes),
    ("evaluation", "Evaluation", evaluation),
    ("certainty", "Certainty and calibration", certainty),
    ("examples", "Nearest neighbours, wrong and right", examples),
    ("projection", "Projections", projections),
    ("similarity", "Similarity between classes", similarities),
    ("encoders", "Encoders and their combination", encoders),
    ("tuning", "Tuning", tuning),
    ("origin", "Provenance and versions", origin),
)
ALIGNED = ("alignment", "Alignment", alignment)
"""Of an index that was carried to another device, after the overview."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(found: Findings, now: datetime) -> Html:
    """The whole document. `now` is said at the foot, in its own time zone."""
    name = found.index.name
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"Reference index {name}"),
        tag("style", Html(STYLE)),
    )
    sections = SECTIONS if found.carried is None else (SECTIONS[0], ALIGNED, *SECTIONS[1:])
    links = [tag("li", tag("a", title, href=f"#{anchor}")) for anchor, title, _ in sections]
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#overview", class_="skip"),
        tag(
            "header",
            tag("h1", "Reference index ", tag("em", name)),
            para(f"sha256 {found.index.sha256[:16]} · {' + '.join(e.name for e in found.index.encoders)}"),
            tag("nav", tag("ol", *links), aria_label="Sections"),
        ),
        tag("main", *(_section(anchor, title, draw(found)) for anchor, title, draw in sections)),
        tag("footer", para(f"Cellvigil, {now:%Y-%m-%d %H:%M %Z}. All in this file; nothing is fetched.")),
    )
    return Html("<!doctype html>\n" + joined(tag("html", head, body, lang="en")) + "\n")


def _section(anchor: str, title: str, content: Html) -> Html:
    heading = tag("h2", title, id=f"{anchor}-title")
    return tag("section", heading, content, id=anchor, aria_labelledby=f"{anchor}-title")
