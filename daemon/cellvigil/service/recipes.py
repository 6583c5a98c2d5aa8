"""The recipes that frames are worked on by, one a source, and their exchange while the service runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from cellvigil.pipeline import Recipe


class Recipes(Mapping[str, Recipe]):
    """By source. Any thread may ask and swap.

    A frame gets its source's recipe once, when it is handed out, and keeps it to its end: so a swap falls between two
    frames, whoever makes it, and those inside are called and recorded by the recipe that they began with.
    """

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = dict(recipes)

    def __getitem__(self, source: str) -> Recipe:
        return self._recipes[source]

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)

    def swap(self, source: str, recipe: Recipe) -> None:
        """From now on frames of `source` are handed out with `recipe`.

        Raises ValueError unless it makes the pictures as the one before does: the baselines of running plates, fixed by
        their first frames, hold for that image rule only.
        """
        if recipe.index.image_rule != self._recipes[source].index.image_rule:
            raise ValueError(f"the image rule of index {recipe.index.name} is not that of source {source}")
        self._recipes[source] = recipe


def lenient(recipe: Recipe) -> Recipe:
    """The same recipe, but no frame is left out for its debris: before the alignment nobody knows what is debris, and
    frames that are left out would be missing from the fit.
    """
    return replace(recipe, limits=recipe.limits.model_copy(update={"max_debris": 1.0}))


def marked(recipe: Recipe, marks: Mapping[str, str]) -> Recipe:
    """The same recipe; what it makes says in its provenance how it was aligned."""
    return replace(recipe, provenance={**recipe.provenance, **marks})
