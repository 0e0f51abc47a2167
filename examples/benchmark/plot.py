"""The medians as bars, or as a curve over workers, in SVG."""

from __future__ import annotations

from html import escape
from math import log2

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


def curve(rates: dict[int, float], title: str) -> str:
    """Return an SVG with the rate by the number of workers, beside what would be linear.

    Both axes double from one mark to the next.
    """
    counts = sorted(rates)
    alone = rates[counts[0]] / counts[0]
    step, left, top = 80, 90, 60
    height, width = step * (len(counts) - 1), left + step * len(counts)

    def place(count: float, rate: float) -> str:
        x, y = (step * log2(n) for n in (count / counts[0], rate / (alone * counts[0])))
        return f"{left + x:.1f},{top + height - y:.1f}"

    linear = " ".join(place(n, n * alone) for n in counts)
    real = " ".join(place(n, rates[n]) for n in counts)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + height + 60}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{top + height + 60}" fill="#fff"/>',
        f'<text x="10" y="24" font-weight="bold">{escape(title)}</text>',
        f'<polyline points="{linear}" fill="none" stroke="#9aa0a6" stroke-dasharray="4 4"/>',
        f'<polyline points="{real}" fill="none" stroke="#1a73e8" stroke-width="2"/>',
    ]
    for count in counts:
        x, y = place(count, rates[count]).split(",")
        share = rates[count] / (count * alone)
        lines += [
            f'<circle cx="{x}" cy="{y}" r="4" fill="#1a73e8"/>',
            f'<text x="{x}" y="{float(y) + 20:.1f}">{rates[count]:.0f}, {share:.2f}</text>',
            f'<text x="{x}" y="{top + height + 45}" text-anchor="middle">{count}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
