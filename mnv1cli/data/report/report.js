"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const records = JSON.parse(byId("data").textContent).entries;
  const list = byId("entries");
  const entries = [...list.children].map((node, i) => ({
    node,
    ...records[i],
    text: [records[i].name.toLowerCase()],
    stops: [...node.querySelectorAll(".open")],
  }));
  const labelled = document.body.dataset.kind === "labels";
  if (labelled) {
    for (const entry of entries) {
      entry.text = entry.labels.map((label) => label.toLowerCase());
    }
  }
  if (!entries.length) return;

  const filter = byId("filter"), lower = byId("lower"), verdict = byId("verdict");
  const least = byId("least"), most = byId("most"), sort = byId("sort");
  const dialog = byId("dialog");
  const percent = (value) => (labelled ? `${value} %` : (value / 100).toFixed(2));
  let seen = [];
  let stops = [];
  let current = null;
  let enlarged = null;

  // The entries that are shown: filters and order.

  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const stage = (entry) => ({ right: 1, "": 2 })[entry.verdict] ?? 0;
  const orders = {
    results: () => 0,
    certain: (a, b) => b.certainty - a.certainty,
    uncertain: (a, b) => a.certainty - b.certainty,
    label: (a, b) => compare(a.text[0] ?? "", b.text[0] ?? "") || b.certainty - a.certainty,
    name: (a, b) => compare(a.name, b.name),
    mistakes: (a, b) =>
      stage(a) - stage(b) ||
      (stage(a) ? a.certainty - b.certainty : b.certainty - a.certainty),
  };

  function fits(entry) {
    const certainty = Math.round(entry.certainty * 1000) / 10;
    if (certainty < Number(least.value) || certainty > Number(most.value)) return false;
    if (verdict?.value && !verdict.value.split(" ").includes(entry.verdict)) return false;
    const wanted = filter.value.trim().toLowerCase();
    if (!wanted) return true;
    const ranks = labelled && !lower.checked ? entry.text.slice(0, 1) : entry.text;
    return ranks.some((text) => text.includes(wanted)) ||
      Boolean(labelled && entry.truth.toLowerCase().includes(wanted));
  }

  // Other entries are taken out: to lay out thousands that are only hidden takes seconds.
  function show() {
    seen = entries.filter(fits);
    list.replaceChildren(...seen.map((entry) => entry.node));
    stops = seen.flatMap((entry) => entry.stops);
    const [some, all] = [seen, entries].map((shown) => shown.length.toLocaleString("en"));
    byId("count").textContent = some === all ? all : `${some} of ${all}`;
    byId("bounds").textContent =
      `${percent(Number(least.value))} to ${percent(Number(most.value))}`;
    byId("nothing").hidden = seen.length > 0;
    mark(stops.includes(current) ? current : stops[0]);
  }

  function reorder() {
    entries.sort((a, b) => orders[sort.value](a, b) || a.index - b.index);
    show();
  }

  function reset() {
    filter.value = "";
    least.value = 0;
    most.value = 100;
    if (verdict) verdict.value = "";
    show();
    filter.focus();
  }

  // Tab leads to one image only; arrows lead to the others.

  function mark(stop) {
    if (current) current.tabIndex = -1;
    current = stop ?? null;
    if (current) current.tabIndex = 0;
  }

  function go(stop) {
    if (!stop) return;
    mark(stop);
    stop.focus();
    stop.closest(".card").scrollIntoView({ block: "nearest" });
  }

  function columns() {
    const nodes = stops.map((stop) => stop.closest(".card"));
    const top = nodes[0].offsetTop;
    const count = nodes.findIndex((node) => node.offsetTop !== top);
    return count < 0 ? nodes.length : count;
  }

  function below(stop, step) {
    const at = stops.indexOf(stop);
    if (labelled) return stops[at + step * columns()];
    const row = seen.findIndex((entry) => entry.stops.includes(stop));
    return seen[row + step]?.stops[0];
  }

  function target(key) {
    const at = stops.indexOf(current);
    if (key === "ArrowRight") return stops[at + 1];
    if (key === "ArrowLeft") return stops[at - 1];
    if (key === "Home") return stops[0];
    if (key === "End") return stops[stops.length - 1];
    if (key === "ArrowDown") return below(current, 1);
    if (key === "ArrowUp") return below(current, -1);
    return null;
  }

  // The larger view.

  function enlarge(stop) {
    const card = stop.closest(".card");
    enlarged = stop;
    byId("dialog-name").textContent = card.querySelector(".name").title;
    const parts = [stop.firstElementChild, ...card.querySelectorAll(".verdict, .labels")];
    byId("dialog-body").replaceChildren(...parts.map((part) => part.cloneNode(true)));
    const at = stops.indexOf(stop);
    byId("position").textContent = `${at + 1} of ${stops.length}`;
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === stops.length - 1;
    if (!dialog.open) dialog.showModal();
  }

  function turn(step) {
    const stop = stops[stops.indexOf(enlarged) + step];
    if (stop) enlarge(stop);
  }

  // Not left to the "close" event, which comes after other keys may have been pressed.
  function shut() {
    dialog.close();
    go(enlarged);
  }

  list.addEventListener("click", (event) => {
    const stop = event.target.closest(".open");
    if (stop) enlarge(stop);
  });
  list.addEventListener("focusin", (event) => {
    if (event.target.classList.contains("open")) mark(event.target);
  });
  list.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (!event.target.classList.contains("open")) return;
    const stop = target(event.key);
    if (stop === null) return;
    event.preventDefault();
    go(stop);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") turn(1);
    if (event.key === "ArrowLeft") turn(-1);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) shut();
  });
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    shut();
  });
  byId("close").addEventListener("click", shut);
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("reset").addEventListener("click", reset);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input[type=search]")) return;
    event.preventDefault();
    filter.focus();
    filter.select();
  });
  filter.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    // The card that gets the focus must not react to the same key press.
    event.preventDefault();
    go(stops[0]);
  });
  least.addEventListener("input", () => {
    if (Number(most.value) < Number(least.value)) most.value = least.value;
  });
  most.addEventListener("input", () => {
    if (Number(most.value) < Number(least.value)) least.value = most.value;
  });
  for (const control of [filter, lower, verdict, least, most]) {
    control?.addEventListener("input", show);
  }
  sort.addEventListener("input", reorder);
  for (const entry of entries) for (const stop of entry.stops) stop.tabIndex = -1;
  byId("controls").hidden = false;
  byId("keys").hidden = false;
  // A page that was reloaded keeps the values of its controls.
  reorder();
})();
