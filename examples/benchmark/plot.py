"""The medians as bars, in SVG."""

from __future__ import annotations

from html import escape

_LEFT, _RIGHT, _ROW, _BAR, _LENGTH = 170, 130, 26, 18, 420


def bars(rates: dict[str, float], title: str, ours: str = "mnv1") -> str:
    """Return an SVG with a bar for each name, the longest first; `ours` stand out."""
    ordered = sorted(rates.items(), key=lambda item: -item[1])
    highest = max(rates.values(), default=1.0)
    width, height = _LEFT + _LENGTH + _RIGHT, 40 + _ROW * len(ordered) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        # White below it, so that it can be read on a dark page too.
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="24" font-weight="bold">{escape(title)}</text>',
    ]
    for row, (name, rate) in enumerate(ordered):
        top = 40 + _ROW * row
        length = rate / highest * _LENGTH
        colour = "#1a73e8" if name.startswith(ours) else "#9aa0a6"
        lines += [
            f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
            f'<text x="{_LEFT + length + 6:.1f}" y="{top + 14}">{rate:.0f} images/s</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
