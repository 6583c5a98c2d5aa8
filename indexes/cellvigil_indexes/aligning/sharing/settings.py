"""How shared classes are looked for: the values that `sharing` takes.

Tuned on halves of `pbc` and altered pictures of it, a class withheld from the reference (`benchmarks/align_sharing.py`,
table 1). Equation 23 alone does not tell what is foreign: at the least probability of 0.6, 7 % of the right matches are
lost and 3 of 4 clusters of the withheld class match another one; at 0.9, 18 to 26 % and every second. A cosine does not
see how far away a cluster lies, so for `Shared.unmatched`, not for dropping classes, a match has to lie within `reach`
of its class as well: 1 of 3 then still match, and 23 to 34 % of the right matches are lost. Most of these are lost
where clusters and mixture disagree, and no cell is called unmatched there; where they agree it was 4 %, and every
second foreign cluster was found (97 and 20 clusters, a trial that the benchmark does not repeat).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.sharing.clusters import ClusterSettings
from cellvigil_indexes.aligning.sharing.matching import MatchSettings

PAPER, LOUVAIN = "paper", "louvain"
AXES, LETTER = "axes", "letter"


@dataclass(frozen=True, slots=True)
class SharingSettings:
    """How shared classes are looked for."""

    subset: int = 2000  # cells a run, where the target has more
    runs: int = 5  # random subsets, where the target has more
    methods: tuple[str, ...] = (LOUVAIN, PAPER)  # the first one's clusters are those that are reported
    space: str = AXES  # "axes", or "letter": the encoders' vectors as they come
    least_votes: float = 0.0  # share of the runs in which a cluster has to match a class; 0: any run
    least_share: float | None = 0.02  # of the target, by `mixture`: enough to keep a class; None: not asked
    least_agreement: float = 0.6  # share of the matched cells that both put in one class; below, nothing is dropped
    reach: float = 0.6  # how far a matched cluster may lie off its class, of the way to the nearest other class
    clusters: ClusterSettings = field(default_factory=lambda: ClusterSettings(sigma=0.15))
    matching: MatchSettings = field(default_factory=MatchSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.methods or set(self.methods) - {PAPER, LOUVAIN}:
            raise UsageError(f"methods {', '.join(self.methods) or '(none)'} must be of {PAPER}, {LOUVAIN}")
        if self.space not in (AXES, LETTER):
            raise UsageError(f"space {self.space!r} is none of {AXES}, {LETTER}")
        if self.subset < 1 or self.runs < 1:
            raise UsageError(f"{self.runs} runs of {self.subset} cells: both must be 1 or more")

    @classmethod
    def letter(cls, method: str = PAPER, *, centred: bool = False) -> SharingSettings:
        """The paper's own way, with its own algorithm or with Louvain's."""
        matching = MatchSettings(centred=centred)
        return cls(methods=(method,), space=LETTER, least_share=None, clusters=ClusterSettings(), matching=matching)
