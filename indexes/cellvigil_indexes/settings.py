"""How an index is to be searched and called: the values that `build` takes, `tune` chooses and the manifest keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cellvigil import decide
from cellvigil.errors import UsageError

METRICS = ("l2", "canberra")
SCALINGS = ("none", "unit", "discriminant")
SEARCHES = ("auto", "exact", "hnsw")
STORAGES = ("float32", "float16")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Everything about a call but the cells and the encoders; see `cellvigil.decide.Settings` for the first four."""

    k_min: int = 3
    k_max: int = 100
    threshold: float = 0.3  # normalised entropy, 0..1
    reweight: bool = True
    scaling: str = "none"  # "unit": every encoder's mean distance is 1; "discriminant": along axes that part classes
    metric: str = "l2"  # "l2" or "canberra" (0/0 = 0)
    search: str = "auto"  # "exact", "hnsw", or "auto": by size and metric
    storage: str = "float32"  # of the embeddings on disk; "float16" halves them

    def __post_init__(self) -> None:
        _ = self.depth  # raises UsageError for depths and thresholds that contradict each other
        for name, allowed in (
            ("metric", METRICS),
            ("scaling", SCALINGS),
            ("search", SEARCHES),
            ("storage", STORAGES),
        ):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} {getattr(self, name)!r} is none of {', '.join(allowed)}")

        if self.scaling == "discriminant" and self.metric != "l2":
            raise UsageError("discriminant axes have no Canberra distance", hint="--metric l2, or --scale none or unit")

    @property
    def depth(self) -> decide.Settings:
        """What the stopping rule and the vote need of it."""
        return decide.Settings(self.k_min, self.k_max, self.threshold, self.reweight)


def settings_of(manifest: Mapping[str, Any]) -> IndexSettings:
    """The settings that an index's manifest holds; what older manifests do not say has its default.

    `search` is what was asked for ("auto" included), not what it led to.
    """
    known = {field.name for field in fields(IndexSettings)}
    found = {name: value for name, value in manifest.items() if name in known and name != "search"}
    return IndexSettings(**found, search=manifest.get("search_wanted", "auto"))
