"""What a module from outside may do: compute, and read its own variables.

A SavedModel is a program. Here its graph is read before TensorFlow gets to load
it, for loading alone runs a part of it. What may run is

- of a graph of the TF1 kind: what its signatures lead to, its initialisers, its
  restore, and the handles of its variables; and, of all the rest too, what
  TensorFlow computes ahead to learn a shape;
- of a TF2 object: every function that the object names. A restored function
  whose attribute is called as a method of the loader is called by the loader.

Functions that are called are followed into their bodies, whole: TensorFlow
runs what has state in them even where no result depends on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError
from mnv1cli.modules import audit_ops
from mnv1cli.modules.audit_ops import ForeignOperation, format_operations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    # Whether a node may run.
    Rule = Callable[[Any], bool]

_INIT_SIGNATURE = "__saved_model_init_op"
# Collections of what loading runs, and of what a training step does.
_INITIALISERS = (
    "saved_model_main_op",
    "legacy_init_op",
    "saved_model_init_op",
    "saved_model_initializers",
    "table_initializer",
    "local_resources",
    "resources",
)
_VARIABLES, _LOCAL_VARIABLES = ("variables", "saveable_objects"), "local_variables"
_UPDATES = "update_ops"
# With this attribute a function takes another's place without being called by name.
_STANDS_IN = "api_implements"


def audit_module(saved_model: Any, meta_graph: Any) -> tuple[ForeignOperation, ...]:
    """The foreign operations that may run when this graph is loaded or its signatures are."""
    if loads_objects(saved_model, meta_graph):
        return keep_first_nodes(_audit_objects(meta_graph))
    return keep_first_nodes(_audit_graph(meta_graph, _may_infer))


def audit_training(meta_graph: Any) -> tuple[ForeignOperation, ...]:
    """The same of a graph for training, which may also change variables and draw numbers."""
    updates = _collect_names(meta_graph, [_UPDATES])
    return keep_first_nodes(
        [*_audit_graph(meta_graph, _may_train), *_audit_tensors(meta_graph, updates, _may_train)]
    )


def audit_function(graph_def: Any) -> tuple[ForeignOperation, ...]:
    """The foreign operations of a function that was traced, all of which is run."""
    graph = _Graph(graph_def)
    return keep_first_nodes(_find_foreign(graph, graph.reached(graph.nodes), _may_infer))


def loads_objects(saved_model: Any, meta_graph: Any) -> bool:
    """Whether TensorFlow loads this graph as TF2 objects: this is how it decides."""
    return len(saved_model.meta_graphs) == 1 and meta_graph.HasField("object_graph_def")


def refuse_foreign(handle: str, path: Path, foreign: tuple[ForeignOperation, ...]) -> None:
    """Refuse a module with foreign operations.

    Raises:
        ModuleError: there is one; names them.
    """
    if foreign:
        place = "" if Path(handle) == path else f" in {path}"
        raise ModuleError(
            f"module {handle}{place} runs operations that a classifier has no use for: "
            f"{format_operations(foreign)}",
            "--trust-module runs it as you would run a program",
        )


def _may_infer(node: Any) -> bool:
    return audit_ops.infers(str(node.op))


def _may_initialise(node: Any) -> bool:
    return _may_infer(node) or audit_ops.assigns(node.op)


def _may_train(node: Any) -> bool:
    return _may_infer(node) or audit_ops.trains(node.op)


def _audit_graph(meta_graph: Any, rule: Rule) -> Iterator[ForeignOperation]:
    """Of a graph that is loaded as TF1's are."""
    signatures = dict(meta_graph.signature_def)
    initialisers = _collect_tensors([signatures.pop(_INIT_SIGNATURE, None)])
    initialisers += _collect_names(meta_graph, _INITIALISERS) + _collect_variables(meta_graph)
    yield from _audit_tensors(meta_graph, _collect_tensors(signatures.values()), rule)
    yield from _audit_tensors(
        meta_graph, initialisers, lambda node: rule(node) or _may_initialise(node)
    )
    yield from _audit_restore(meta_graph)
    yield from _audit_everywhere(meta_graph, rule)


def _audit_restore(meta_graph: Any) -> Iterator[ForeignOperation]:
    """Of what fills the variables: it reads the module's checkpoint, and no other.

    What saves them is never run, so it is not looked at.
    """
    saver = meta_graph.saver_def
    checkpoint = saver.filename_tensor_name.removesuffix(":0")

    def restores(node: Any) -> bool:
        if node.op == "RestoreV2":
            return [name.removesuffix(":0") for name in node.input[:1]] == [checkpoint]
        return _may_initialise(node)

    if saver.restore_op_name:
        roots = [saver.restore_op_name, saver.filename_tensor_name]
        yield from _audit_tensors(meta_graph, roots, restores)


def _audit_objects(meta_graph: Any) -> Iterator[ForeignOperation]:
    """Of TF2's objects: the rule for training, for their functions include that."""
    objects = meta_graph.object_graph_def
    names = set(objects.concrete_functions)
    for node in objects.nodes:
        names.update(node.function.concrete_functions)
        names.add(node.bare_concrete_function.concrete_function_name)
        names.add(node.captured_tensor.concrete_function)
    graph = _Graph(meta_graph.graph_def)
    yield from _find_foreign(graph, graph.within(sorted(names & set(graph.functions))), _may_train)
    yield from _audit_everywhere(meta_graph, _may_train)


def _audit_everywhere(meta_graph: Any, rule: Rule) -> Iterator[ForeignOperation]:
    """Of what runs without being reached: ahead, to learn a shape, or in another's stead."""
    graph = _Graph(meta_graph.graph_def)
    yield from _find_foreign(graph, graph.within(graph.stand_ins()), rule)
    for node, name in graph.everything():
        if node.op not in graph.functions and audit_ops.runs_on_import(node.op):
            yield ForeignOperation(node.op, name)


def _audit_tensors(
    meta_graph: Any, tensors: Iterable[str], rule: Rule
) -> Iterator[ForeignOperation]:
    graph = _Graph(meta_graph.graph_def)
    return _find_foreign(graph, graph.reached(map(_get_node_name, tensors)), rule)


def _find_foreign(
    graph: _Graph, nodes: Iterable[tuple[Any, str]], rule: Rule
) -> Iterator[ForeignOperation]:
    """The nodes that may not run, among which is what calls a function that is not there."""
    for node, name in nodes:
        # TensorFlow, too, looks for a function before it looks for an operation.
        known = node.op in graph.functions or rule(node)
        if not known or not _collect_functions(node.attr.values()) <= set(graph.functions):
            yield ForeignOperation(node.op, name)


def keep_first_nodes(found: Iterable[ForeignOperation]) -> tuple[ForeignOperation, ...]:
    """Each operation once, with the first node that is one."""
    first: dict[str, ForeignOperation] = {}
    for each in found:
        first.setdefault(each.operation, each)
    return tuple(first.values())


class _Graph:
    """A GraphDef's nodes and functions by name, and what is reached from where."""

    def __init__(self, graph_def: Any) -> None:
        self.nodes = {node.name: node for node in graph_def.node}
        # All of one name, for it is not said which of them TensorFlow takes.
        self.functions: dict[str, list[Any]] = {}
        for function in graph_def.library.function:
            self.functions.setdefault(function.signature.name, []).append(function)

    def reached(self, names: Iterable[str]) -> Iterator[tuple[Any, str]]:
        """The nodes that these depend on by data or control, and the bodies of what they call."""
        waiting, seen, called = list(names), set(), set()
        while waiting:
            name = waiting.pop()
            node = self.nodes.get(name)
            if name in seen or node is None:
                continue
            seen.add(name)
            waiting += map(_get_node_name, node.input)
            called |= self._called(node)
            yield node, name
        yield from self.within(sorted(called))

    def within(self, names: Iterable[str]) -> Iterator[tuple[Any, str]]:
        """The nodes of these functions, and of those that they call in turn."""
        waiting, seen = list(names), set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for node in self.bodies(name):
                waiting += sorted(self._called(node))
                yield node, f"{name}/{node.name}"

    def everything(self) -> Iterator[tuple[Any, str]]:
        """All nodes, within functions too, whether something leads there or not."""
        yield from ((node, name) for name, node in self.nodes.items())
        for name in self.functions:
            yield from ((node, f"{name}/{node.name}") for node in self.bodies(name))

    def bodies(self, name: str) -> Iterator[Any]:
        """The nodes of the functions of one name."""
        return (node for function in self.functions[name] for node in function.node_def)

    def stand_ins(self) -> list[str]:
        """The functions that may be run in another's place."""
        found = self.functions.items()
        return [name for name, same in found if any(_STANDS_IN in each.attr for each in same)]

    def _called(self, node: Any) -> set[str]:
        return {node.op, *_collect_functions(node.attr.values())} & set(self.functions)


def _collect_functions(attributes: Iterable[Any]) -> set[str]:
    """The names of the functions in attributes, and in what is bound to those in turn."""
    names = set()
    waiting = list(attributes)
    while waiting:
        value = waiting.pop()
        bound = [value.func] if value.HasField("func") else []
        for function in [*bound, *value.list.func]:
            names.add(function.name)
            waiting += function.attr.values()
    return names


def _collect_tensors(signatures: Iterable[Any]) -> list[str]:
    """Every tensor that signatures name, in whatever way."""
    found = []
    for signature in signatures:
        infos = [*signature.inputs.values(), *signature.outputs.values()] if signature else []
        for info in infos:
            sparse = info.coo_sparse
            found += [info.name, sparse.values_tensor_name, sparse.indices_tensor_name]
            found.append(sparse.dense_shape_tensor_name)
            found += [component.name for component in info.composite_tensor.components]
    return found


def _collect_names(meta_graph: Any, collections: Iterable[str]) -> list[str]:
    """The nodes that collections list."""
    present = [key for key in collections if key in meta_graph.collection_def]
    return [name for key in present for name in meta_graph.collection_def[key].node_list.value]


def _collect_variables(meta_graph: Any) -> list[str]:
    """The handles and reads of variables, and what fills those that no checkpoint has."""
    from tensorflow.core.framework import variable_pb2

    found = _collect_names(meta_graph, [*_VARIABLES, _LOCAL_VARIABLES])
    for key in {*_VARIABLES, _LOCAL_VARIABLES} & set(meta_graph.collection_def):
        for wire in meta_graph.collection_def[key].bytes_list.value:
            variable = variable_pb2.VariableDef.FromString(wire)
            found += [variable.variable_name, variable.snapshot_name]
            if key == _LOCAL_VARIABLES:
                found.append(variable.initializer_name)
    return found


def _get_node_name(tensor: str) -> str:
    """The node that gives a tensor, or that a control input names."""
    return tensor.removeprefix("^").partition(":")[0]
