"""`cellvigil classify --html`: the answers as one page that opens offline, each with the reference cells behind it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

import cv2
import numpy as np

from cellvigil.bundle.index import ReferenceIndex
from cellvigil.classify import Answer, Witness
from cellvigil.data import U8

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f23; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
article { border-top: 1px solid #d0d7de; padding: 1rem 0; display: flex; gap: 1.5rem; flex-wrap: wrap; }
figure { margin: 0; width: 96px; font-size: 12px; overflow-wrap: anywhere; }
img { width: 96px; height: 96px; image-rendering: auto; border: 1px solid #d0d7de; }
.call { width: 20rem; } .call h2 { margin: 0; font-size: 1.2rem; }
.near { display: flex; gap: .75rem; flex-wrap: wrap; }
.agrees { border-bottom: 4px solid #0072b2; } .differs { border-bottom: 4px solid #d55e00; } p { margin: .2rem 0; }
"""


def page(answers: Iterable[Answer], index: ReferenceIndex) -> str:
    """The whole page as text. Names from files are escaped."""
    body = "\n".join(_article(answer) for answer in answers)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Called by {escape(index.name)}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{_STYLE}</style></head><body>
<h1>Called by {escape(index.name)} <small>{index.sha256[:12]}</small></h1>
<p>Beside each picture the reference cells that lie nearest; a blue line marks those of the class that was called, an
orange one the others. Certainty is the papers\' (1 - H) x 100 %: it says where the search stopped, not how often such
a call is right. The probability, where there is one, does. Research use only.</p>
{body}
</body></html>
"""


def _article(answer: Answer) -> str:
    shares = ", ".join(f"{escape(name)} {share:.0%}" for name, share in _leading(answer))
    lines = [f"vote: {shares}", f"{answer.k} neighbours, certainty {answer.certainty:.0f} %"]
    if answer.probability is not None:
        lines.insert(0, f"probability of being right: {answer.probability:.0%}")
    if answer.possible is not None:
        lines.append("cannot be ruled out: " + (escape(", ".join(answer.possible)) or "no class fits"))
    if answer.novelty_p is not None:
        lines.append(f"as far out as this: {answer.novelty_p:.1%} of the class's own cells")
    if answer.agreement is not None and answer.voters is not None:
        apart = [f"{name}: {said}" for name, said in answer.voters.items() if said != answer.best]
        told = f" ({escape('; '.join(apart))})" if apart else ""
        lines.append(f"voters that agree: {answer.agreement:.0%}{told}")
        if answer.for_expert:
            lines.insert(0, "for an expert to look at")
    if answer.reference is not None:
        lines.append(f"this very picture is reference cell {answer.reference}")
    if answer.unknown_reason:
        lines.insert(0, f"would be {escape(answer.best)}, but is {escape(answer.unknown_reason)}")
    told = "".join(f"<p>{line}</p>" for line in lines)
    near = "".join(_witness(each, answer.best) for each in answer.nearest)
    return f"""<article><figure><img alt="the cell" src="{_data(answer.picture)}">
<figcaption>{escape(answer.image)}</figcaption></figure>
<div class="call"><h2>{escape(answer.label)}</h2>{told}</div><div class="near">{near}</div></article>"""


def _witness(witness: Witness, best: str) -> str:
    kind = "agrees" if witness.class_name == best else "differs"
    name = escape(witness.class_name)
    return f"""<figure class="{kind}"><img alt="reference cell {witness.cell}, {name}" src="{_data(witness.picture)}">
<figcaption><b>{name}</b> {witness.distance:.3g}<br>cell {witness.cell}: {escape(witness.image)}</figcaption>
</figure>"""


def _leading(answer: Answer) -> list[tuple[str, float]]:
    voted = [(name, share) for name, share in answer.vote_share.items() if share > 0]
    return sorted(voted, key=lambda item: -item[1])[:3]


def _data(picture: U8) -> str:
    """A picture (H, W, C) as a data address, PNG."""
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode()
