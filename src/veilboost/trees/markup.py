"""HTML and SVG elements whose text is always escaped.

Names of columns, levels and participants come from others. Whatever is a plain `str` is text here; only a `Markup`,
which `element` makes, goes into a page as it is.
"""

import html
import unicodedata
from typing import Final

#: Characters that change how the text around them is shown: a name must not reorder the words of a page.
_REORDERING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HIDDEN: Final = "\ufffd"


class Markup(str):
    """A piece of a page that is safe to insert as it is."""

    __slots__ = ()


def element(tag: str, *children: str | None, **attributes: str | float | None) -> Markup:
    """Make one element.

    Parameters
    ----------
    tag
        Such as "p"; with "" just the children, one after another.
    children
        `Markup` is inserted as it is, any other string as text; None is left out.
    attributes
        None is left out; of names like `class_` and `stroke_width` a last underscore goes and others become hyphens.
    """
    inner = "".join(child if isinstance(child, Markup) else escape(child) for child in children if child is not None)
    if not tag:
        return Markup(inner)
    given = "".join(
        f' {name.removesuffix("_").replace("_", "-")}="{escape(value if isinstance(value, str) else number(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{given}>{inner}</{tag}>")


def escape(text: str) -> Markup:
    """Text as markup."""
    return Markup(html.escape(visible(text), quote=True))


def visible(text: str) -> str:
    """The text on one line; characters that control how it is shown become replacement characters."""
    return "".join(" " if char.isspace() else _HIDDEN if _controls(char) else char for char in text)


def _controls(char: str) -> bool:
    return char in _REORDERING or unicodedata.category(char) in ("Cc", "Cs")


def number(value: float) -> str:
    """A coordinate: at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
