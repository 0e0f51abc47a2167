"""The effects of single TensorFlow operations, judged by their declarations.

There are 1,900 operations, and more with every version, so few are listed
here. An operation only computes if it is declared without state and its inputs
and attributes cannot name a file, an address, a function or a resource. Being
declared without state is not enough: `ReadFile`, `MatchingFiles`,
`ImmutableConst` and the debugger's operations are as well.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from mnv1cli.path_text import display_path


class ForeignOperation(NamedTuple):
    """An operation that a classifier has no use for, and its first node."""

    operation: str
    node: str


# These find and read variables.
_READS = re.compile(
    r"(IsVariable|VarIs)Initialized(Op)?|ReadVariableOp|DisableCopyOnRead|ResourceGather(Nd)?"
    r"|VarHandleOp|Variable(V2|Shape)?"
)
# These can only stop a run; `GuaranteeConst` not even that.
_CHECKS = re.compile(r"Assert|CheckNumerics(V2)?|GuaranteeConst")
# These run functions, whose bodies are judged instead.
_CALLS = re.compile(r"(Stateful)?PartitionedCall|(Stateless)?(Case|If|While)|For")
_ASSIGNS = re.compile(r"Assign(VariableOp)?")
# These change variables in other ways too, and draw numbers.
_TRAINS = re.compile(
    r"Assign(Add|Sub)?(VariableOp)?|Resource(Sparse)?Apply\w+|ResourceScatter\w+"
    r"|(Random(Uniform|UniformInt|StandardNormal|Shuffle|Gamma)|TruncatedNormal|Multinomial)"
    r"|Stateful(Uniform|UniformInt|UniformFullInt|StandardNormalV2|TruncatedNormal)"
    r"|Rng(ReadAndSkip|Skip)|StatelessRandomGetAlg"
)

# Text attributes that are not names: they choose a variant of the computation, or are messages.
_PLAIN_TEXTS = re.compile(
    r"bad_indices_policy|dct_method|(dst|src)_format|equation|fill_mode|frame_name|interpolation"
    r"|kernel_type|message|noise"
)
# These take texts and convert them, without opening what the texts might name.
_ON_TEXTS = re.compile(
    r"(Audio|Histogram|Image|Merge|Scalar|Tensor)Summary(V2)?"
    r"|AsString|Decode(AndCropJpeg|Base64|Bmp|Gif|Image|Jpeg|PaddedRaw|Png|Raw|WebP)"
    r"|Encode(Base64|Jpeg|Png)|ExtractJpegShape|Sharded(Filename|Filespec)"
    r"|Parse(Example|ExampleV2|SequenceExample|SequenceExampleV2|SingleExample)"
    r"|ReduceJoin|(Static)?Regex(FullMatch|Replace)|Substr"
    r"|String(Format|Join|Length|Lower|Split|SplitV2|Strip|ToHashBucketFast|ToNumber|Upper)"
)
# Lists in loops are values of the same type as data sets and iterators.
_LISTS = re.compile(r"(Empty)?TensorList\w*")
# The number of foreign operations that a message names.
_SHOWN = 5


def computes(operation: str) -> bool:
    """Return whether an operation only computes, with no other effect and no other source."""
    declared = find_definition(operation)
    if declared is None or declared.is_stateful or operation.startswith("_"):
        return False
    if _LISTS.fullmatch(operation):
        return True
    on_texts = _ON_TEXTS.fullmatch(operation) is not None
    arguments = [*declared.input_arg, *declared.output_arg]
    plain = all(_is_plain(argument, on_texts) for argument in arguments)
    return plain and (on_texts or not any(map(_could_name, declared.attr)))


def infers(operation: str) -> bool:
    """Return whether an operation computes, reads variables, or calls a function to be judged."""
    patterns = (_READS, _CHECKS, _CALLS)
    return computes(operation) or any(pattern.fullmatch(operation) for pattern in patterns)


def assigns(operation: str) -> bool:
    """Return whether an operation assigns a value to a variable."""
    return _ASSIGNS.fullmatch(operation) is not None


def trains(operation: str) -> bool:
    """Return whether an operation changes variables, or draws numbers."""
    return _TRAINS.fullmatch(operation) is not None


def runs_on_import(operation: str) -> bool:
    """Return whether an operation that does more than compute is run when a graph is imported.

    TensorFlow infers shapes then, and for that computes the values of whatever
    has no state and depends only on constants: a shape from `ReadFile` is read.
    """
    declared = find_definition(operation)
    if declared is None or declared.is_stateful or infers(operation):
        return False
    # An operation that takes a reference depends on a variable, a queue or the like.
    return not any(argument.is_ref for argument in declared.input_arg)


@cache
def find_definition(operation: str) -> Any:
    """Return TensorFlow's declaration of an operation, None for one that it does not know."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(operation)


def _is_plain(argument: Any, on_texts: bool) -> bool:
    """Return whether an input or output is a value, not a name or a handle."""
    from tensorflow.core.framework import types_pb2

    if argument.is_ref or argument.type in (types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT):
        return False
    return on_texts or argument.type != types_pb2.DT_STRING


def _could_name(attribute: Any) -> bool:
    if attribute.type in ("func", "list(func)"):
        return True
    if attribute.type not in ("string", "list(string)"):
        return False
    return not attribute.allowed_values.list.s and not _PLAIN_TEXTS.fullmatch(attribute.name)


def format_operations(foreign: tuple[ForeignOperation, ...]) -> str:
    """Format foreign operations as one line, the first few with their nodes."""
    shown = [f"{_format_name(op)} (node {_format_name(node)!r})" for op, node in foreign[:_SHOWN]]
    more = len(foreign) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _format_name(name: str) -> str:
    # Names come from the module, and may be anything.
    return display_path(name.encode("utf-8", "surrogatepass"))[:100]
