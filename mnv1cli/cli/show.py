"""What `labels` and `module` print: tables for people, CSV and JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from mnv1cli.errors import LabelsError
from mnv1cli.labels import names as class_table
from mnv1cli.modules import artifacts, cache, catalog, files
from mnv1cli.modules.audit_ops import format_operations
from mnv1cli.results.writers.delimited import encode_rows

# Where there is no terminal to fit, lines are left whole.
_PIPE_WIDTH = 400

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mnv1cli.modules.artifacts import StoredModel
    from mnv1cli.modules.hub_module import HubModule, Signature, TensorSpec


def print_labels(pattern: str | None, own: Path | None, form: str) -> None:
    """The classes that match `pattern`, all without one.

    Raises:
        LabelsError: none matches, or the file `own` cannot be read.
    """
    names = class_table.imagenet() if own is None else class_table.read_labels(own)
    found = names if pattern is None else class_table.search(pattern, names)
    if not found:
        raise LabelsError(f"no class matches {pattern!r}")
    rows = [(str(name.class_id), name.wnid, name.label, name.synonyms) for name in found]
    if form == "table":
        print_table(class_table.FIELDS, rows)
    elif form == "jsonl":
        records = (dict(zip(class_table.FIELDS, row, strict=True)) for row in rows)
        for record in records:
            line = {**record, "class_id": int(record["class_id"])}
            click.echo(json.dumps(line, ensure_ascii=False))
    else:
        delimiter = "\t" if form == "tsv" else ","
        click.echo(encode_rows([class_table.FIELDS, *rows], delimiter), nl=False)


def print_cache(as_json: bool) -> None:
    """The modules in the cache."""
    found = cache.list_modules(catalog.list_handles(), broken=True)
    elsewhere = set(artifacts.list_fingerprints())
    rows, entries = [], []
    for m in found:
        fingerprint = files.compute_fingerprint(m.path)
        elsewhere.discard(fingerprint)
        models = artifacts.list_models(fingerprint)
        size = megabytes(m.size) if m.complete else "incomplete"
        rows.append((m.handle or "?", size, _compiled(models), str(m.path)))
        entries.append({**_entry(m), "compiled": [dataclasses.asdict(each) for each in models]})
    for fingerprint in sorted(elsewhere):
        if models := artifacts.list_models(fingerprint):
            place = str(artifacts.artifact_directory(fingerprint))
            rows.append(("lies elsewhere", "", _compiled(models), place))
            compiled = [dataclasses.asdict(each) for each in models]
            entries.append({"handle": "", "path": place, "size": 0, "compiled": compiled})
    if as_json:
        click.echo(json.dumps(entries, indent=2))
    elif not rows:
        click.echo(f"no modules in {cache.cache_root()}")
    else:
        print_table(("handle", "size", "compiled", "path"), rows)


def _compiled(models: Iterable[StoredModel]) -> str:
    return ", ".join(
        f"{' + '.join(each.outputs)} {each.precision} {megabytes(each.size)}" for each in models
    )


def _entry(module: cache.CachedModule) -> dict[str, Any]:
    return {
        "handle": module.handle,
        "path": str(module.path),
        "size": module.size,
        "complete": module.complete,
    }


def print_module(module: HubModule, as_json: bool) -> None:
    """All that is known of a module."""
    facts = _facts(module)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    rows = [
        ("handle", module.handle),
        ("path", str(module.path)),
        ("format", facts["format"]),
        ("tags", " ".join(f"[{', '.join(tags)}]" for tags in module.tags)),
        ("image size", f"{module.image_size or 'not told'}"),
        ("classes", f"{facts['classes'] or 'none'}"),
        ("features", f"{facts['features'] or 'none'}"),
        ("fingerprint", module.fingerprint),
        ("size", megabytes(facts["size"])),
    ]
    if module.foreign:
        rows.append(("foreign operations", format_operations(module.foreign)))
    if module.foreign_training:
        rows.append(("foreign in training", format_operations(module.foreign_training)))
    for name, signature in module.signatures.items():
        rows.append((f"signature {name}", _arrow(signature)))
    rows += [(f"endpoint {key}", _shape(module.endpoint(key).result)) for key in module.endpoints()]
    print_table((), rows)


def print_facts(facts: dict[str, Any], as_json: bool, said: str) -> None:
    """Image info as JSON, or what is said of them."""
    click.echo(json.dumps(facts, indent=2) if as_json else said)


def print_verification(found: Sequence[tuple[str, Path]], as_json: bool) -> bool:
    """What is wrong with modules' files; whether nothing is."""
    entries: list[dict[str, Any]] = [
        {
            "handle": handle,
            "path": str(path),
            "ok": not (problems := files.find_problems(path)),
            "checksums": files.has_checksums(path),
            "problems": problems,
        }
        for handle, path in found
    ]
    if as_json:
        click.echo(json.dumps(entries, indent=2))
    elif not entries:
        click.echo(f"no modules in {cache.cache_root()}")
    for entry in [] if as_json else entries:
        state = "; ".join(entry["problems"]) or "all files are as they came"
        if entry["ok"] and not entry["checksums"]:
            state = "complete; no checksums were noted when it came"
        click.echo(f"{entry['handle'] or entry['path']}: {state}")
    return all(entry["ok"] for entry in entries)


def print_removed(found: Sequence[cache.CachedModule], as_json: bool) -> None:
    """What was taken out of the cache."""
    if as_json:
        print_entries(found)
    elif not found:
        click.echo(f"no modules in {cache.cache_root()}")
    for module in [] if as_json else found:
        click.echo(f"removed {module.handle or module.path}, {megabytes(module.size)}")


def print_entries(found: Sequence[cache.CachedModule]) -> None:
    """Modules of the cache as JSON."""
    click.echo(json.dumps([_entry(module) for module in found], indent=2))


def _facts(module: HubModule) -> dict[str, Any]:
    return {
        "handle": module.handle,
        "path": str(module.path),
        "format": module.format,
        "tags": [list(tags) for tags in module.tags],
        "signatures": {
            name: {"inputs": _specs(found.inputs), "outputs": _specs(found.outputs)}
            for name, found in module.signatures.items()
        },
        "endpoints": list(module.endpoints()),
        "image_size": module.image_size,
        "classes": module.classes(),
        "features": module.feature_length(),
        "fingerprint": module.fingerprint,
        "size": files.measure_size(module.path),
        "foreign_operations": [each._asdict() for each in module.foreign],
        "foreign_operations_in_training": [each._asdict() for each in module.foreign_training],
    }


def _specs(tensors: Any) -> dict[str, Any]:
    return {
        key: {"dtype": spec.dtype, "shape": [n if n >= 0 else None for n in spec.shape]}
        for key, spec in tensors.items()
    }


def _arrow(signature: Signature) -> str:
    """`images float32 [batch, 128, 128, 3] -> default float32 [batch, 1001]`."""

    def side(tensors: Any) -> str:
        shown = [f"{key} {_shape(spec)}" for key, spec in tensors.items() if "/" not in key]
        hidden = len(tensors) - len(shown)
        return ", ".join(shown) + (f" and {hidden} endpoints" if hidden else "")

    return f"{side(signature.inputs)} -> {side(signature.outputs)}"


def _shape(spec: TensorSpec) -> str:
    first, *rest = ["batch" if n < 0 else str(n) for n in spec.shape]
    return f"{spec.dtype} [{', '.join([first, *rest])}]"


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.1f} MB"


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table; without a header the first column names the rows."""
    from rich.table import Table
    from rich.text import Text

    from mnv1cli.results.writers.table import PipeConsole

    table = Table(box=None, show_header=bool(header), header_style="underline", pad_edge=False)
    for i in range(max(len(header), 2)):
        name = header[i] if header else ""
        table.add_column(name, overflow="fold", style="" if header or i else "bold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = PipeConsole(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)
