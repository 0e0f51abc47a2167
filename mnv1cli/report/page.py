"""The page of a report: what is shown in words and numbers, and the HTML around it."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib import resources
from typing import TYPE_CHECKING, Any

from mnv1cli.path_text import display_path, one_line
from mnv1cli.report.figures import figures
from mnv1cli.report.gallery import Alike, Card, Entry, Labelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mnv1cli.report.gallery import Sort
    from mnv1cli.report.thumbnails import Thumbnail
    from mnv1cli.types import Fault

    Pictures = Mapping[bytes, Thumbnail]

_MAX_FAULTS = 1000
_SORTS = {
    "results": "as in the results",
    "mistakes": "worst mistakes",
    "certain": "most certain",
    "uncertain": "least certain",
    "label": "by label",
    "name": "by name",
}
_SORTS_ALIKE = {
    "results": "as in the results",
    "certain": "most alike",
    "uncertain": "least alike",
    "name": "by name",
}


def rendered(
    found: Labelled | Alike,
    shown: Sequence[Card] | Sequence[Entry],
    pictures: Pictures,
    sort: Sort,
    title: str,
    note: str,
) -> bytes:
    """The page, whole in itself."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mnv1cli", "data/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _style(), _data("report.js")
    html = environment.get_template("report.html.j2").render(
        title=one_line(title),
        note=note,
        policy=_policy(style, script),
        style=style,
        script=script,
        sort=sort,
        faults=_faults(found.faults),
        left_out_faults=max(len(found.faults) - _MAX_FAULTS, 0),
        count_faults=len(found.faults),
        metadata=list(_told(found.metadata)),
        **(_labelled(found, shown, pictures) if isinstance(found, Labelled) else {}),
        **(_alike(found, shown, pictures) if isinstance(found, Alike) else {}),
    )
    return html.encode("utf-8", "backslashreplace")


def _labelled(found: Labelled, shown: Sequence[Any], pictures: Pictures) -> dict[str, Any]:
    cards = [_card(card, pictures) for card in shown]
    sorts = dict(_SORTS)
    if found.evaluation is None:
        del sorts["mistakes"]
    return {
        "kind": "labels",
        "total": found.total,
        "cards": cards,
        "sorts": sorts,
        "known": sorted({card["labels"][0]["name"] for card in cards if card["labels"]}),
        "remarks": found.remarks,
        "evaluation": figures(found.evaluation) if found.evaluation else None,
        "data": {
            "entries": [_card_data(card, seen) for card, seen in zip(shown, cards, strict=True)]
        },
    }


def _card(card: Card, pictures: Pictures) -> dict[str, Any]:
    return {
        **_picture(card.path, pictures),
        "labels": [
            {"name": one_line(p.label), "wnid": one_line(p.wnid), **_share(p.probability)}
            for p in card.predictions
        ],
        "truth": one_line(card.truth),
        "verdict": card.verdict,
    }


def _card_data(card: Card, seen: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script filters and sorts by."""
    return {
        "index": card.index,
        "name": seen["path"],
        "labels": [label["name"] for label in seen["labels"]],
        "truth": seen["truth"],
        "verdict": card.verdict,
        "certainty": round(min(max(card.certainty, 0.0), 1.0), 9),
    }


def _alike(found: Alike, shown: Sequence[Any], pictures: Pictures) -> dict[str, Any]:
    entries = [_entry(entry, pictures) for entry in shown]
    return {
        "kind": "groups" if found.grouped else "matches",
        "total": found.total,
        "cards": entries,
        "sorts": _SORTS_ALIKE,
        "known": [],
        "remarks": [],
        "evaluation": None,
        "data": {
            "entries": [
                {
                    "index": entry.index,
                    "name": "\n".join(map(display_path, entry.paths)),
                    "certainty": round(min(max(entry.certainty, 0.0), 1.0), 9),
                }
                for entry in shown
            ]
        },
    }


def _entry(entry: Entry, pictures: Pictures) -> dict[str, Any]:
    return {
        "number": entry.index + 1,
        "query": _picture(entry.query, pictures) if entry.query else None,
        "closest": f"{entry.certainty:.3f}",
        "members": [
            {**_picture(path, pictures), "self": path == entry.query, **_similarity(similarity)}
            for path, similarity in entry.members
        ],
    }


def _picture(path: bytes, pictures: Pictures) -> dict[str, Any]:
    return {
        "path": display_path(path),
        "name": display_path(os.path.basename(path)),
        "picture": pictures[path],
    }


def _share(fraction: float) -> dict[str, Any]:
    # NaN, where a result has been tampered with, is no share.
    whole = round(100 * fraction) if 0 <= fraction <= 1 else 0
    return {"share": f"{100 * fraction:.1f} %", "width": whole}


def _similarity(similarity: float) -> dict[str, Any]:
    bounded = min(max(similarity, 0.0), 1.0) if similarity == similarity else 0.0
    return {"share": f"{similarity:.3f}", "width": round(100 * bounded)}


def _faults(faults: Sequence[Fault]) -> list[dict[str, str]]:
    return [
        {"path": display_path(fault.path), "reason": one_line(fault.reason)}
        for fault in faults[:_MAX_FAULTS]
    ]


def _told(metadata: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    """The run's metadata, a line each."""
    for key, value in metadata.items():
        if isinstance(value, dict):
            yield from _told(value, f"{before}{key} ")
        elif key != "failures":
            shown = {True: "yes", False: "no"}.get(value) if isinstance(value, bool) else value
            yield one_line(before + key).replace("_", " "), one_line(str(shown))


def _data(name: str) -> str:
    return (resources.files("mnv1cli") / "data" / "report" / name).read_text("utf-8")


def _style() -> str:
    # Bars are as long as their class says: a policy that allows no style but this one
    # allows no attributes either.
    widths = "".join(f".w{i}{{width:{i}%}}" for i in range(101))
    shades = "".join(f".s{i}{{--shade:{4 * i + 8}%}}" for i in range(1, 11))
    return _data("report.css") + widths + shades + "\n"


def _policy(style: str, script: str) -> str:
    """Nothing from anywhere, no style and no script but these."""
    style, script = map(_digest, (style, script))
    return (
        f"default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
