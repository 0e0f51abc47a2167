"""`mnv1 module export`: write a module as a model for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.module_argument import choose_module, module_options
from mnv1cli.cli.options import (
    FORCE,
    IMAGE_SIZE,
    INPUT_RANGE,
    LABELS,
    PREPROCESS,
    with_progress,
)
from mnv1cli.cli.param_types import FILE_OR_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.inference.export.export import ExportedModel
    from mnv1cli.types import FetchOptions, InputRange


@click.command(cls=GroupedCommand)
@module_options
@IMAGE_SIZE
@INPUT_RANGE
@LABELS
@PREPROCESS
@option(
    Group.RUN,
    "--precision",
    type=click.Choice(("float32", "int8")),
    default="float32",
    show_default=True,
    help="int8 is for .tflite; 'mnv1 module quantize' makes it agree better.",
)
@option(
    Group.OUTPUT,
    "-o",
    "--output",
    metavar="NAME",
    type=FILE_OR_FOLDER,
    required=True,
    help="Write NAME.tflite, NAME.onnx, or, without a suffix, the folder of a SavedModel; and "
    "its description to NAME.json.",
)
@option(
    Group.OUTPUT,
    "-f",
    "--format",
    "wanted",
    type=click.Choice(("tflite", "onnx", "savedmodel")),
    help="Default: by NAME's suffix.",
)
@option(
    Group.OUTPUT,
    "--endpoint",
    metavar="NAME",
    default="",
    help="The values that the model gives: logits, features, or a layer as 'mnv1 module show' "
    "lists them. Default: logits, or features of a module without them.",
)
@option(
    Group.OUTPUT,
    "--pool/--no-pool",
    default=True,
    help="Average a layer over height and width (default), or keep all of its values.",
)
@FORCE
def export(
    name: str | None,
    named: str | None,
    fetch: FetchOptions,
    image_size: int | None,
    input_range: InputRange,
    labels: Path | None,
    preprocess: Any,
    precision: Any,
    output: str,
    wanted: Any,
    endpoint: str,
    pool: bool,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Write a module as .tflite, .onnx or SavedModel.

    MODULE is as for --module. A SavedModel is for TF Serving and Keras. NAME.json describes
    input, preprocessing, output and classes.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.inference.export.export import check_export, export_module
        from mnv1cli.inference.predictor import Predictor
        from mnv1cli.inference.settings import Settings

        # Before the module is fetched.
        check_export(output, wanted, precision, force)
        settings = Settings(
            preprocess=preprocess,
            image_size=image_size,
            input_range=input_range,
            labels=labels,
            precision=precision,
            fetch=with_progress(fetch, stream, quiet),
        )
        predictor = Predictor(choose_module(name, named), settings)
        exported = export_module(predictor, output, wanted, endpoint, pool, force)
        _print(exported, as_json)


def _print(exported: ExportedModel, as_json: bool) -> None:
    """Print what was written: as JSON the description without the classes."""
    from mnv1cli.cli.show import format_size, print_facts

    described = exported.description
    (output,) = described["outputs"]
    facts = {
        "path": str(exported.path),
        "description": str(exported.description_path),
        **{key: value for key, value in described.items() if key != "classes"},
    }
    shape = " x ".join(str(n) for n in output["shape"][1:])
    size = format_size(described["size"])
    line = (
        f"{exported.path}: {output['name']} ({shape}) of {described['module']['handle']} in "
        f"{described['precision']}, {size}; described in {exported.description_path}"
    )
    print_facts(facts, as_json, line)
