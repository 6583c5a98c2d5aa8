"""From a source's `kind` in the configuration to its format."""

from __future__ import annotations

from cellvigil import config
from cellvigil.sources.gen5 import Gen5
from cellvigil.sources.nanolive import Nanolive
from cellvigil.sources.ometiff import OmeTiff
from cellvigil.sources.plain import Plain
from cellvigil.sources.protocol import SourceFormat


def format_of(source: config.Source, limits: config.Limits) -> SourceFormat:
    """The format that reads this source's files."""
    match source.kind:
        case "gen5":
            return Gen5(source, limits)
        case "nanolive":
            return Nanolive(source, limits)
        case "ometiff":
            return OmeTiff(source, limits)
        case "plain":
            return Plain(source, limits)
