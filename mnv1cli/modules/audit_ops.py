"""What single operations of TensorFlow can do, judged by how TensorFlow declares them.

There are 1,900 operations, and more with every version, so few are listed
here. One computes and does nothing else if it is declared without state and is
given nothing that could name a file, an address, a function or a resource.
What is declared without state is no proof of that by itself: `ReadFile`,
`MatchingFiles`, `ImmutableConst` and the debugger's operations are, too.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from mnv1cli.path_text import display_path


class ForeignOperation(NamedTuple):
    """An operation that a classifier has no use for, and the first node that is one."""

    operation: str
    node: str


# Variables are found and read.
_READS = re.compile(
    r"(IsVariable|VarIs)Initialized(Op)?|ReadVariableOp|DisableCopyOnRead|ResourceGather(Nd)?"
    r"|VarHandleOp|Variable(V2|Shape)?"
)
# These can stop a run, and nothing else; `GuaranteeConst` not even that.
_CHECKS = re.compile(r"Assert|CheckNumerics(V2)?|GuaranteeConst")
# These run functions, whose bodies are judged in their place.
_CALLS = re.compile(r"(Stateful)?PartitionedCall|(Stateless)?(Case|If|While)|For")
_ASSIGNS = re.compile(r"Assign(VariableOp)?")
# Training changes variables by more than assignment, and draws numbers.
_TRAINS = re.compile(
    r"Assign(Add|Sub)?(VariableOp)?|Resource(Sparse)?Apply\w+|ResourceScatter\w+"
    r"|(Random(Uniform|UniformInt|StandardNormal|Shuffle|Gamma)|TruncatedNormal|Multinomial)"
    r"|Stateful(Uniform|UniformInt|UniformFullInt|StandardNormalV2|TruncatedNormal)"
    r"|Rng(ReadAndSkip|Skip)|StatelessRandomGetAlg"
)

# Texts that are no names: they choose how something is computed, or are what an error says.
_PLAIN_TEXTS = re.compile(
    r"bad_indices_policy|dct_method|(dst|src)_format|equation|fill_mode|frame_name|interpolation"
    r"|kernel_type|message|noise"
)
# What is given texts and makes something else of them, without opening what they might name.
_ON_TEXTS = re.compile(
    r"(Audio|Histogram|Image|Merge|Scalar|Tensor)Summary(V2)?"
    r"|AsString|Decode(AndCropJpeg|Base64|Bmp|Gif|Image|Jpeg|PaddedRaw|Png|Raw|WebP)"
    r"|Encode(Base64|Jpeg|Png)|ExtractJpegShape|Sharded(Filename|Filespec)"
    r"|Parse(Example|ExampleV2|SequenceExample|SequenceExampleV2|SingleExample)"
    r"|ReduceJoin|(Static)?Regex(FullMatch|Replace)|Substr"
    r"|String(Format|Join|Length|Lower|Split|SplitV2|Strip|ToHashBucketFast|ToNumber|Upper)"
)
# Lists within loops are values of the type that data sets and iterators have, too.
_LISTS = re.compile(r"(Empty)?TensorList\w*")
# How many foreign operations a message names.
_SHOWN = 5


def computes(operation: str) -> bool:
    """Whether an operation gives its results, and has no other effect and no other source."""
    found = find_definition(operation)
    if found is None or found.is_stateful or operation.startswith("_"):
        return False
    if _LISTS.fullmatch(operation):
        return True
    on_texts = _ON_TEXTS.fullmatch(operation) is not None
    plain = all(_is_plain(each, on_texts) for each in [*found.input_arg, *found.output_arg])
    return plain and (on_texts or not any(_could_name(each) for each in found.attr))


def infers(operation: str) -> bool:
    """Whether an operation computes, reads variables, or calls a function that is to be judged."""
    known = (_READS, _CHECKS, _CALLS)
    return computes(operation) or any(each.fullmatch(operation) for each in known)


def assigns(operation: str) -> bool:
    """Whether an operation gives a variable its value."""
    return _ASSIGNS.fullmatch(operation) is not None


def trains(operation: str) -> bool:
    """Whether an operation changes variables, or draws numbers."""
    return _TRAINS.fullmatch(operation) is not None


def runs_on_import(operation: str) -> bool:
    """Whether an operation that does more than compute is run where a graph is but read.

    TensorFlow works out shapes then, and for that the values of whatever has
    no state and depends on constants alone: a shape from `ReadFile` is read.
    """
    found = find_definition(operation)
    if found is None or found.is_stateful or infers(operation):
        return False
    # What is given a reference depends on a variable, a queue or the like.
    return not any(argument.is_ref for argument in found.input_arg)


@cache
def find_definition(operation: str) -> Any:
    """How TensorFlow declares an operation, None for one that it does not know."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(operation)


def _is_plain(argument: Any, on_texts: bool) -> bool:
    """Whether what goes in or comes out is a value, not a name or a handle."""
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
    """Foreign operations in one line, the first few with their nodes."""
    shown = [f"{_format_name(op)} (node {_format_name(node)!r})" for op, node in foreign[:_SHOWN]]
    more = len(foreign) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _format_name(name: str) -> str:
    # Names come from the module, and may hold anything.
    return display_path(name.encode("utf-8", "surrogatepass"))[:100]
