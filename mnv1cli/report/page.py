"""The HTML of a report: everything on it as words, numbers and pictures in one file."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib import resources
from typing import TYPE_CHECKING, Any

from mnv1cli.path_text import display_path, to_one_line
from mnv1cli.report.figures import summarize
from mnv1cli.report.gallery import Card, Entry, LabelGallery, SimilarityGallery

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mnv1cli.report.gallery import Sort
    from mnv1cli.report.thumbnails import Thumbnail
    from mnv1cli.types import Fault

    Thumbnails = Mapping[bytes, Thumbnail]

_MAX_FAULTS = 1000
_LABEL_SORTS = {
    "results": "as in the results",
    "mistakes": "worst mistakes",
    "certain": "most certain",
    "uncertain": "least certain",
    "label": "by label",
    "name": "by name",
}
_SIMILARITY_SORTS = {
    "results": "as in the results",
    "certain": "most similar",
    "uncertain": "least similar",
    "name": "by name",
}


def render_page(
    gallery: LabelGallery | SimilarityGallery,
    selected: Sequence[Card] | Sequence[Entry],
    thumbnails: Thumbnails,
    sort: Sort,
    title: str,
    note: str,
) -> bytes:
    """Render the page, which needs no other file.

    `selected` are the cards or entries that it shows, `note` says what is left out.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mnv1cli", "data/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _make_style(), _read_data("report.js")
    if isinstance(gallery, LabelGallery):
        content = _describe_labels(gallery, selected, thumbnails)
    else:
        content = _describe_similarities(gallery, selected, thumbnails)
    html = environment.get_template("report.html.j2").render(
        title=to_one_line(title),
        note=note,
        policy=_make_policy(style, script),
        style=style,
        script=script,
        sort=sort,
        faults=_describe_faults(gallery.faults),
        left_out_faults=max(len(gallery.faults) - _MAX_FAULTS, 0),
        count_faults=len(gallery.faults),
        metadata=list(_flatten(gallery.metadata)),
        **content,
    )
    return html.encode("utf-8", "backslashreplace")


def _describe_labels(
    gallery: LabelGallery, selected: Sequence[Any], thumbnails: Thumbnails
) -> dict[str, Any]:
    cards = [_describe_card(card, thumbnails) for card in selected]
    sorts = dict(_LABEL_SORTS)
    if gallery.evaluation is None:
        del sorts["mistakes"]
    return {
        "kind": "labels",
        "total": gallery.total,
        "cards": cards,
        "sorts": sorts,
        "label_names": sorted({card["labels"][0]["name"] for card in cards if card["labels"]}),
        "remarks": gallery.remarks,
        "evaluation": summarize(gallery.evaluation) if gallery.evaluation else None,
        "data": {
            "entries": [
                _card_data(card, content) for card, content in zip(selected, cards, strict=True)
            ]
        },
    }


def _describe_card(card: Card, thumbnails: Thumbnails) -> dict[str, Any]:
    return {
        **_describe_picture(card.path, thumbnails),
        "labels": [
            {
                "name": to_one_line(p.label),
                "wnid": to_one_line(p.wnid),
                **_format_share(p.probability),
            }
            for p in card.predictions
        ],
        "truth": to_one_line(card.truth),
        "verdict": card.verdict,
        "warning": to_one_line(card.warning),
    }


def _card_data(card: Card, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the script of the page filters and sorts by."""
    return {
        "index": card.index,
        "name": content["path"],
        "labels": [label["name"] for label in content["labels"]],
        "truth": content["truth"],
        "verdict": card.verdict,
        "certainty": _bound_certainty(card.certainty),
    }


def _describe_similarities(
    gallery: SimilarityGallery, selected: Sequence[Any], thumbnails: Thumbnails
) -> dict[str, Any]:
    return {
        "kind": "groups" if gallery.grouped else "matches",
        "total": gallery.total,
        "cards": [_describe_entry(entry, thumbnails) for entry in selected],
        "sorts": _SIMILARITY_SORTS,
        "label_names": [],
        "remarks": [],
        "evaluation": None,
        "data": {
            "entries": [
                {
                    "index": entry.index,
                    "name": "\n".join(map(display_path, entry.paths)),
                    "certainty": _bound_certainty(entry.certainty),
                }
                for entry in selected
            ]
        },
    }


def _describe_entry(entry: Entry, thumbnails: Thumbnails) -> dict[str, Any]:
    return {
        "number": entry.index + 1,
        "query": _describe_picture(entry.query, thumbnails) if entry.query else None,
        "closest": f"{entry.certainty:.3f}",
        "members": [
            {
                **_describe_picture(path, thumbnails),
                "self": path == entry.query,
                **_format_similarity(similarity),
            }
            for path, similarity in entry.members
        ],
    }


def _describe_picture(path: bytes, thumbnails: Thumbnails) -> dict[str, Any]:
    return {
        "path": display_path(path),
        "name": display_path(os.path.basename(path)),
        "picture": thumbnails[path],
    }


def _bound_certainty(certainty: float) -> float:
    return round(min(max(certainty, 0.0), 1.0), 9)


def _format_share(fraction: float) -> dict[str, Any]:
    # NaN, where a result has been tampered with, is no share.
    whole = round(100 * fraction) if 0 <= fraction <= 1 else 0
    return {"share": f"{100 * fraction:.1f} %", "width": whole}


def _format_similarity(similarity: float) -> dict[str, Any]:
    bounded = min(max(similarity, 0.0), 1.0) if similarity == similarity else 0.0
    return {"share": f"{similarity:.3f}", "width": round(100 * bounded)}


def _describe_faults(faults: Sequence[Fault]) -> list[dict[str, str]]:
    return [
        {"path": display_path(fault.path), "reason": to_one_line(fault.reason)}
        for fault in faults[:_MAX_FAULTS]
    ]


def _flatten(metadata: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield the metadata of the run as names and values, a line each."""
    for key, value in metadata.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key} ")
        elif key != "failures":
            shown = {True: "yes", False: "no"}.get(value) if isinstance(value, bool) else value
            yield to_one_line(prefix + key).replace("_", " "), to_one_line(str(shown))


def _read_data(name: str) -> str:
    return (resources.files("mnv1cli") / "data" / "report" / name).read_text("utf-8")


def _make_style() -> str:
    # The class of a bar sets its length: a policy that allows only this style allows no
    # style attributes either.
    widths = "".join(f".w{i}{{width:{i}%}}" for i in range(101))
    shades = "".join(f".s{i}{{--shade:{4 * i + 8}%}}" for i in range(1, 11))
    return _read_data("report.css") + widths + shades + "\n"


def _make_policy(style: str, script: str) -> str:
    """Allow only this style and this script, and nothing from anywhere else."""
    style, script = map(_digest, (style, script))
    return (
        f"default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
