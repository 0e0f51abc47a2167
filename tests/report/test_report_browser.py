"""The report in a real browser: no requests, no messages, and everything by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mnv1cli.analysis import synthetic_photos
from tests.support.browser import Page, open_chromium
from tests.support.report_pages import HOSTILE, write_labels_csv, write_matches_csv
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The neighbours that overlap, and the elements that stick out of the page or of their card.
LAYOUT = """(() => {
  const wrong = [];
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) wrong.push(`the page is ${wide} wide`);
  for (const card of document.querySelectorAll(".card")) {
    const outer = card.getBoundingClientRect();
    for (const part of card.querySelectorAll(".open, .name, .label, .share, .bar, .verdict")) {
      const box = part.getBoundingClientRect();
      if (box.width && (box.left < outer.left || box.right > outer.right + 0.5)) {
        wrong.push(`${part.className} sticks out`);
      }
    }
    for (const row of card.querySelectorAll(".labels li")) {
      const [label, share] = [...row.children].map((e) => e.getBoundingClientRect());
      if (label.right > share.left && share.width) wrong.push("a label runs into its share");
      if (share.width && label.width < 30) wrong.push("a label has no room");
    }
  }
  const controls = [...document.querySelectorAll("#controls > *")]
    .map((e) => e.getBoundingClientRect());
  controls.forEach((a, i) => controls.slice(i + 1).forEach((b) => {
    const beside = a.left >= b.right - 1 || b.left >= a.right - 1;
    const above = a.top >= b.bottom - 1 || b.top >= a.bottom - 1;
    if (!beside && !above) wrong.push("two controls overlap");
  }));
  return wrong;
})()"""
# The texts with less contrast to the nearest background behind them than WCAG asks for.
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = rgba(colour).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const poor = new Set();
  const text = "p, b, small, h1, h2, h3, dt, dd, th, td, .label, .share, label, legend, summary";
  for (const node of document.querySelectorAll(text)) {
    if (!node.textContent.trim() || !node.getClientRects().length) continue;
    const [a, b] = [getComputedStyle(node).color, behind(node)].map(light).sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.add(`${node.tagName}.${node.className} ${ratio.toFixed(2)}`);
  }
  return [...poor];
})()"""
SEEN = """[...document.querySelectorAll("#entries > .entry")]
  .filter((node) => !node.hidden).map((node) => node.querySelector(".label").textContent)"""
FOCUS = "document.activeElement.closest('.card')?.querySelector('.label').textContent ?? ''"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of labels, of an evaluation, of matches and of groups, hostile names among them."""
    folder = tmp_path_factory.mktemp("pages")
    synthetic_photos.write_pictures(folder, 12, 90, 60)
    names = [path.name for path in sorted(folder.iterdir())]
    write_labels_csv(folder / "labels.csv", [*names, *HOSTILE])
    truth = "".join(f"{name},{('tabby', 'espresso')[i % 2]}\n" for i, name in enumerate(names))
    (folder / "truth.csv").write_text("path,label\n" + truth)
    write_matches_csv(folder / "matches.csv", names[:3], names)
    (folder / "groups.csv").write_text(
        "group,path,similarity\n" + "".join(f"{i // 4 + 1},{n},0.97\n" for i, n in enumerate(names))
    )
    runs = {
        "labels": ("labels.csv",),
        "evaluation": ("labels.csv", "--truth", folder / "truth.csv"),
        "matches": ("matches.csv",),
        "groups": ("groups.csv",),
    }
    made = {}
    for name, (results, *more) in runs.items():
        made[name] = folder / f"{name}.html"
        result = mnv1("report", folder / str(results), *more, "-o", made[name])
        assert result.exit_code == 0, result.stderr
    return made


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("name", ["labels", "evaluation", "matches", "groups"])
def test_page_is_legible_and_asks_for_nothing(
    page: Page, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    page.requests.clear()
    page.messages.clear()
    page.open(pages[name], width, dark)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.evaluate(LAYOUT) == []
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.querySelectorAll('.open img').length") >= 12
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert page.messages == []
    assert [url for url in page.requests if not url.startswith("data:")] == [pages[name].as_uri()]
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert page.evaluate("typeof window.hurt") == "undefined"


def test_labels_are_filtered_and_sorted_by_keyboard(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["labels"])
    everything = page.evaluate(SEEN)
    page.press("/", *"tabby")
    assert page.evaluate("document.activeElement.id") == "filter"
    seen = page.evaluate(SEEN)
    assert set(seen) == {"tabby"}
    assert page.evaluate("count.textContent") == f"{len(seen)} of {len(everything)}"
    page.press("Enter")
    assert page.evaluate(FOCUS) == "tabby"
    page.press("/", *"zzz")
    assert page.evaluate("filter.value") == "zzz"
    assert page.evaluate("!nothing.hidden && document.activeElement.id === 'filter'")
    page.evaluate("document.getElementById('reset').focus()")
    page.press("Enter")
    assert page.evaluate(SEEN) == everything
    page.evaluate("document.getElementById('sort').focus()")
    page.press("l", "e", "a", "s")
    assert page.evaluate("document.getElementById('sort').value") == "uncertain"
    shares = page.evaluate("[...document.querySelectorAll('.labels li:first-child .share')]"
                        ".map((e) => parseFloat(e.textContent))")  # fmt: skip
    assert shares == sorted(shares)
    page.evaluate("document.getElementById('least').focus()")
    page.press("End")
    assert page.evaluate("document.getElementById('bounds').textContent") == "100 % to 100 %"
    assert len(page.evaluate(SEEN)) < len(everything)


def test_cards_are_walked_and_enlarged_by_keyboard(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["evaluation"])
    stops = "[...document.querySelectorAll('.open')]"
    at = f"{stops}.indexOf(document.activeElement)"
    page.evaluate("document.getElementById('sort').focus()")
    page.press("Tab")
    assert page.evaluate(at) == 0
    page.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert page.evaluate(at) == 1
    page.press("ArrowDown")
    columns = page.evaluate(at) - 1
    assert columns == page.evaluate(
        "getComputedStyle(entries).gridTemplateColumns.split(' ').length"
    )
    assert page.evaluate(
        "getComputedStyle(document.activeElement.closest('.card')).outlineStyle"
    ) == ("solid")
    page.press("ArrowUp", "End", "ArrowRight", "Home")
    assert page.evaluate(at) == 0
    page.press("Enter")
    assert page.evaluate("document.getElementById('dialog').open")
    assert page.evaluate("document.querySelectorAll('#dialog .labels li').length") == 5
    page.press("ArrowRight")
    assert page.evaluate("position.textContent").startswith("2 of ")
    page.press("Escape")
    assert not page.evaluate("document.getElementById('dialog').open")
    assert page.evaluate(at) == 1
    # One stop for all of the cards: the next one is beyond them.
    page.press("Tab")
    assert page.evaluate(at) == -1
    assert page.messages == []


def test_mistakes_come_first_and_can_be_selected(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["evaluation"])
    verdicts = (
        "[...document.querySelectorAll('.entry:not([hidden]) .verdict')]"
        ".map((e) => e.classList[1] === 'right')"
    )
    right = page.evaluate(verdicts)
    assert right == sorted(right)
    assert {True, False} <= set(right)
    page.evaluate("document.getElementById('verdict').focus()")
    page.press("m")
    assert set(page.evaluate(verdicts)) == {False}


@pytest.mark.parametrize("name", ["matches", "groups"])
def test_similarities_are_walked_and_filtered(
    page: Page, pages: dict[str, Path], name: str
) -> None:
    page.open(pages[name])
    rows = "[...document.querySelectorAll('#entries > .entry')]"
    assert page.evaluate(f"{rows}.length") == 3
    page.evaluate("document.getElementById('sort').focus()")
    page.press("Tab", "ArrowDown", "ArrowDown")
    assert page.evaluate(f"{rows}.indexOf(document.activeElement.closest('.entry'))") == 2
    page.press("Enter", "Escape", "/", *"00001")
    assert page.evaluate("filter.value") == "00001"
    seen = page.evaluate(f"{rows}.filter((e) => !e.hidden).length")
    assert 1 <= seen <= 3
    assert page.messages == []
