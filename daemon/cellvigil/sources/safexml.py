"""XML out of image files on shared storage: no DTD, no entity, nothing external, of bounded size."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from cellvigil import config
from cellvigil.errors import BadFile
from cellvigil.sources.load import MEGABYTE, too_large

_MOST_ELEMENTS, _MOST_ATTRIBUTES = 800_000, 1_500_000  # each takes some hundred bytes once it is parsed


def parse(text: str, path: str, limits: config.Limits | None = None) -> Element:
    """The root element. Raises BadFile: "bad_metadata" for a DTD, an entity or broken XML, "too_large"."""
    limits = limits or config.Limits()
    if len(text) > limits.max_metadata_mb * MEGABYTE:
        raise too_large(path, f"the metadata has {len(text)} characters", "limits.max_metadata_mb")
    if text.count("<") > _MOST_ELEMENTS or text.count("=") > _MOST_ATTRIBUTES:
        raise BadFile("too_large", f"the metadata has more than {_MOST_ELEMENTS} elements", where=path)
    try:
        root = defusedxml.ElementTree.fromstring(text.strip("\0 \r\n\t\ufeff"), forbid_dtd=True)
    except DefusedXmlException as error:
        what = f"the metadata holds a DTD or an entity, which is unsafe ({type(error).__name__})"
        raise BadFile("bad_metadata", what, where=path) from None
    except (ParseError, ValueError) as error:
        raise BadFile("bad_metadata", f"the metadata is no XML: {error}", where=path) from None
    if not isinstance(root, Element):
        raise BadFile("bad_metadata", "the metadata has no element", where=path)
    return root


def refuse_dtd(text: str, path: str) -> None:
    """Raise BadFile("bad_metadata") if `text` declares a DTD or an entity: for XML that a library will parse itself."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadFile("bad_metadata", "the metadata holds a DTD or an entity, which is unsafe", where=path)


def local(element: Element) -> str:
    """The element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def children(element: Element, name: str) -> list[Element]:
    """The direct children of that name, whatever their namespace."""
    return [child for child in element if local(child) == name]


def text_at(element: Element, *names: str) -> str:
    """The text at a path of child names, stripped; "" where the path ends early."""
    for name in names:
        found = children(element, name)
        if not found:
            return ""
        element = found[0]
    return (element.text or "").strip()
