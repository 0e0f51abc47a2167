"""A predictor with the module, or with all settings, that an existing result was made with."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import Mnv1Error, ModuleError, OptionError, ResultError
from mnv1cli.inference.predictor import Predictor, choose_module_name
from mnv1cli.inference.result_module import ResultModule
from mnv1cli.inference.settings import Settings, make_input_range
from mnv1cli.results.metadata import Difference, compare_modules
from mnv1cli.types import DEFAULT_DEVICE, UNIT_RANGE, FetchOptions

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from mnv1cli.storage.location import ResultSource

log = logging.getLogger(__name__)

_SETTINGS = ("preprocess", "decode", "exif", "engine", "precision")


def reopen_predictor(
    metadata: Mapping[str, Any],
    module: str | None = None,
    fetch: FetchOptions | None = None,
    threads: int | None = None,
    result: ResultSource | None = None,
) -> Predictor:
    """Make a predictor with the settings that a result was made with.

    Args:
        metadata: the metadata of the result, as JSON has them.
        module: the module that the result was made with, where it has been moved.
        fetch: how modules are fetched.
        threads: the number of cores to use; None for all.
        result: the result, in whose folder a relative path of the module may begin.

    Raises:
        ModuleError: the module does not exist any more.
        ResultError: the metadata lack a setting, or the module is not the one of the result.
    """
    made_with = ResultModule.from_metadata(metadata["module"], result)
    for name in _SETTINGS:
        if name not in metadata:
            raise ResultError(f"the metadata lack {name}")
    try:
        input_range = make_input_range(metadata.get("input_range", UNIT_RANGE))
    except OptionError as error:
        raise ResultError(f"the metadata have {error.what}") from error
    settings = Settings(
        **{name: metadata[name] for name in _SETTINGS},
        damaged=metadata.get("damaged", "refuse"),
        device=metadata.get("device", DEFAULT_DEVICE),
        input_range=input_range,
        image_size=made_with.image_size,
        threads=threads,
        fetch=fetch or FetchOptions(),
    )
    if module is None:
        return _open_recorded(made_with, settings)
    predictor = Predictor(module, settings)
    difference = compare_modules(metadata["module"], predictor.make_facts())
    if difference is not None:
        raise difference.refuse(made_with.result)
    return predictor


def open_predictor(
    module: str | os.PathLike[str] | None, settings: Settings, made_with: ResultModule | None
) -> Predictor:
    """Make a predictor for a run that goes on with a result, which was made with `made_with`.

    Where no module is named, that of the result is used and not the default one.

    Raises:
        ModuleError: there is no such module, or it cannot be used.
        ResultError: there is only another version of the result's module, or the settings have
            another size of images.
    """
    name = choose_module_name(module)
    if name is not None or made_with is None:
        return Predictor(name, settings)
    if settings.image_size not in (None, made_with.image_size):
        difference = Difference("--image-size", made_with.image_size, settings.image_size)
        raise difference.refuse(made_with.result)
    try:
        predictor = _open_recorded(made_with, replace(settings, image_size=made_with.image_size))
    except Mnv1Error:
        if made_with.handle:
            raise
        return Predictor(None, settings)
    if not made_with.is_of_the_hub:
        log.info(
            "going on with module %s, which %s was made with (--module chooses another)",
            predictor.module.handle,
            made_with.result,
        )
    return predictor


def keep_module(predictor: Predictor, made_with: ResultModule | None) -> Predictor:
    """Return the predictor for a run that goes on with a result, as `open_predictor` makes it.

    Raises:
        ModuleError: the result's module cannot be used any more.
        ResultError: there is only another version of it.
    """
    is_same = made_with is None or made_with.fingerprint == predictor.module.fingerprint
    if is_same or not predictor.is_default:
        return predictor
    return open_predictor(None, predictor.settings, made_with)


def _open_recorded(made_with: ResultModule, settings: Settings) -> Predictor:
    """Open the module of a result by the first of its names that leads to the same files.

    Raises:
        ModuleError: the module cannot be used any more.
        ResultError: there is only another version of it.
    """
    failure: ModuleError | None = None
    for name in made_with.list_names():
        try:
            predictor = Predictor(name, settings)
        except ModuleError as error:
            failure = failure or made_with.explain_failure(error)
            continue
        if predictor.module.fingerprint == made_with.fingerprint:
            return predictor
    raise failure or made_with.refuse_version()
