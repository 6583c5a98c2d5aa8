"""HTML that cannot be broken by foreign text: whatever is not made here is escaped. Strings in, strings out."""

from __future__ import annotations

from html import escape

_VOID = ("meta", "img", "br", "link")


class Html(str):
    """Markup that is whole and safe; plain `str` is text yet to be escaped."""

    __slots__ = ()


def tag(element: str, *children: str, **attributes: str | None) -> Html:
    """An element. Children that are not Html are escaped; attributes always; `class_` is class, `_` is a hyphen."""
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if element in _VOID:
        return Html(f"<{element}{said}>")
    return Html(f"<{element}{said}>{joined(*children)}</{element}>")


def joined(*children: str) -> Html:
    """Pieces behind each other, text escaped."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))
