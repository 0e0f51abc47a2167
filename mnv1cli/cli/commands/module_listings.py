"""Tables and JSON that the commands of `mnv1 module` print."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from mnv1cli.cli.show import format_megabytes, print_json, print_table
from mnv1cli.inference.probe import read_outcome
from mnv1cli.modules import artifacts, bundled, cache, catalog, files
from mnv1cli.modules.audit_ops import format_operations
from mnv1cli.path_text import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mnv1cli.modules.artifacts import StoredModel
    from mnv1cli.modules.cache import CachedModule
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Signature, TensorSpec


def print_cache(as_json: bool) -> None:
    """Print the modules in the cache, and what was compiled from these and others."""
    outside = set(artifacts.list_fingerprints())
    rows, entries = [], []
    for module in cache.list_modules(catalog.list_handles(), broken=True):
        fingerprint = files.compute_fingerprint(module.path)
        outside.discard(fingerprint)
        models = artifacts.list_models(fingerprint)
        image_size = _find_image_size(module.handle, fingerprint)
        size = format_megabytes(module.size) if module.complete else "incomplete"
        images = f"{image_size or '?'}"
        rows.append((module.handle or "?", images, size, _format_models(models), str(module.path)))
        entries.append(
            {
                **_describe_cached(module),
                "image_size": image_size,
                "compiled": _describe_models(models),
            }
        )
    for fingerprint in sorted(outside):
        if models := artifacts.list_models(fingerprint):
            path = str(artifacts.artifact_directory(fingerprint))
            image_size = _find_image_size("", fingerprint)
            rows.append(
                ("not in the cache", f"{image_size or '?'}", "", _format_models(models), path)
            )
            entries.append(
                {
                    "handle": "",
                    "path": path,
                    "size": 0,
                    "image_size": image_size,
                    "compiled": _describe_models(models),
                }
            )
    if as_json:
        print_json(entries)
    elif not rows:
        _print_empty()
    else:
        print_table(("handle", "images", "size", "compiled", "path"), rows)


def _find_image_size(handle: str, fingerprint: str) -> int | None:
    """Find a module's image size in pixels without reading its graph, which needs TensorFlow.

    It is in the handle, or was recorded when the module was opened for the first time; None
    where it is in neither.
    """
    if size := bundled.parse_image_size(handle):
        return size
    recorded = (record.get("image_size") for record in artifacts.list_records(fingerprint))
    size = next((value for value in recorded if isinstance(value, int)), None)
    variant = catalog.parse_family_name(handle)
    return size or (variant.image_size if variant else None)


def print_module(module: HubModule, as_json: bool) -> None:
    """Print the facts about a module, its signatures and its endpoints."""
    facts = _describe(module)
    if as_json:
        print_json(facts)
        return
    rows = [
        ("handle", module.handle),
        ("path", str(module.path)),
        ("format", facts["format"]),
        ("tags", " ".join(f"[{', '.join(tags)}]" for tags in module.tags)),
        ("image size", f"{module.image_size or 'not stated'}"),
        ("classes", f"{facts['classes'] or 'none'}"),
        *([("scores", facts["scores"])] if facts["scores"] else []),
        ("features", f"{facts['features'] or 'none'}"),
        ("fingerprint", module.fingerprint),
        ("size", format_megabytes(facts["size"])),
    ]
    if module.foreign:
        rows.append(("foreign operations", format_operations(module.foreign)))
    if module.foreign_training:
        rows.append(("foreign in training", format_operations(module.foreign_training)))
    for name, signature in module.signatures.items():
        rows.append((f"signature {name}", _format_signature(signature)))
    rows += [
        (f"endpoint {key}", _format_tensor(module.endpoint(key).result))
        for key in module.endpoints()
    ]
    print_table((), rows)


def print_verification(modules: Sequence[tuple[str, Path]], as_json: bool) -> bool:
    """Print the problems of modules, given as handle and path; return whether there are none."""
    entries: list[dict[str, Any]] = [
        {
            "handle": handle,
            "path": str(path),
            "ok": not (problems := files.find_problems(path)),
            "checksums": files.has_checksums(path),
            "problems": problems,
        }
        for handle, path in modules
    ]
    if as_json:
        print_json(entries)
    elif not entries:
        _print_empty()
    else:
        for entry in entries:
            click.echo(f"{entry['handle'] or entry['path']}: {_format_state(entry)}")
    return all(entry["ok"] for entry in entries)


def print_removed(modules: Sequence[CachedModule], as_json: bool) -> None:
    """Print the modules that were removed from the cache."""
    if as_json:
        print_json([_describe_cached(module) for module in modules])
    elif not modules:
        _print_empty()
    else:
        for module in modules:
            size = format_megabytes(module.size)
            click.echo(f"removed {module.handle or module.path}, {size}")


def _print_empty() -> None:
    click.echo(f"no modules in {cache.cache_root()}")


def _format_models(models: Iterable[StoredModel]) -> str:
    return ", ".join(
        f"{' + '.join(model.outputs)} {_name_precision(model)} {format_megabytes(model.size)}"
        for model in models
    )


def _name_precision(model: StoredModel) -> str:
    return f"{model.precision} ({model.recipe})" if model.recipe else model.precision


def _describe_models(models: Iterable[StoredModel]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(model) for model in models]


def _describe_cached(module: CachedModule) -> dict[str, Any]:
    return {
        "handle": module.handle,
        "path": str(module.path),
        "size": module.size,
        "complete": module.complete,
    }


def _format_state(entry: Mapping[str, Any]) -> str:
    """Return the result of verifying a module in words."""
    if entry["problems"]:
        return "; ".join(entry["problems"])
    if not entry["checksums"]:
        return "complete; there are no checksums to compare with"
    return "all files are unchanged"


def _describe(module: HubModule) -> dict[str, Any]:
    """Return the facts about a module for JSON."""
    return {
        "handle": module.handle,
        "path": str(module.path),
        "format": module.format,
        "tags": [list(tags) for tags in module.tags],
        "signatures": {
            name: {
                "inputs": _describe_tensors(signature.inputs),
                "outputs": _describe_tensors(signature.outputs),
            }
            for name, signature in module.signatures.items()
        },
        "endpoints": list(module.endpoints()),
        "image_size": module.image_size,
        "classes": module.classes(),
        "scores": _describe_scores(module),
        "features": module.feature_length(),
        "fingerprint": module.fingerprint,
        "size": files.measure_size(module.path),
        "foreign_operations": [operation._asdict() for operation in module.foreign],
        "foreign_operations_in_training": [
            operation._asdict() for operation in module.foreign_training
        ],
    }


def _describe_scores(module: HubModule) -> str | None:
    """Return the kind of a module's scores, None where it has none or was not run yet."""
    if module.classes() is None:
        return None
    outcome = read_outcome(module, module.logits())
    return None if outcome is None else "probabilities" if outcome else "logits"


def _describe_tensors(tensors: Mapping[str, TensorSpec]) -> dict[str, Any]:
    return {
        key: {"dtype": spec.dtype, "shape": [n if n >= 0 else None for n in spec.shape]}
        for key, spec in tensors.items()
    }


def _format_signature(signature: Signature) -> str:
    """`images float32 [batch, 128, 128, 3] -> default float32 [batch, 1001]`."""
    return f"{_format_tensors(signature.inputs)} -> {_format_tensors(signature.outputs)}"


def _format_tensors(tensors: Mapping[str, TensorSpec]) -> str:
    # The names of endpoints have a slash in them.
    main = [f"{key} {_format_tensor(spec)}" for key, spec in tensors.items() if "/" not in key]
    endpoints = len(tensors) - len(main)
    return ", ".join(main) + (f" and {count(endpoints, 'endpoint')}" if endpoints else "")


def _format_tensor(spec: TensorSpec) -> str:
    """`float32 [batch, ?, ?, 3]`, where `?` is an unknown side, or `float32 scalar`."""
    if not spec.shape:
        return f"{spec.dtype} scalar"
    batch, *sides = ("?" if n < 0 else str(n) for n in spec.shape)
    return f"{spec.dtype} [{', '.join(['batch' if batch == '?' else batch, *sides])}]"
