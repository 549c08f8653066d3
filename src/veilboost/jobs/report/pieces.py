"""Small pieces that all sections of the report are made of."""

from veilboost.trees.markup import Markup, element


def section(title: str, *children: Markup) -> Markup:
    """A part of the page under a heading."""
    return element("section", element("h2", title), *children)


def scrolling(what: str, child: Markup) -> Markup:
    """A box of its own that scrolls sideways, with the keyboard too."""
    return element("div", child, class_="scroll", role="region", aria_label=what, tabindex="0")


def duration(seconds: float) -> str:
    """Seconds for people: "0.22 s", "54.0 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 120:
        decimals = 1 if seconds >= 10 else 2 if seconds >= 0.1 else 3
        return f"{seconds:.{decimals}f} s" if seconds >= 0.0005 else "0 s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes} min {left} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
