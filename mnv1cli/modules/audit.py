"""The audit of modules from others: they may only compute, and read their own variables.

A SavedModel is a program. Its graph is read here before TensorFlow loads it,
because loading already runs a part of it. The parts that can run are

- of a TF1 graph: what its signatures depend on, its initialisers, its restore,
  and the handles of its variables; and, of all other nodes too, what TensorFlow
  computes in advance to infer a shape;
- of TF2 objects: every function that the objects name. A restored function is
  called by the loader if its attribute is named as a method of the loader.

The bodies of called functions are audited completely: TensorFlow runs the
stateful nodes in them even if no result depends on them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError
from mnv1cli.modules import audit_ops
from mnv1cli.modules.audit_ops import ForeignOperation, format_operations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    # Returns whether a node may run.
    Rule = Callable[[Any], bool]

_INIT_SIGNATURE = "__saved_model_init_op"
# Collections of the nodes that loading runs, and of those that a training step runs.
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
# A function with this attribute replaces another without being called by name.
_STANDS_IN = "api_implements"


def audit_module(saved_model: Any, meta_graph: Any) -> tuple[ForeignOperation, ...]:
    """Return the foreign operations that can run when a graph is loaded or its signatures are."""
    if loads_objects(saved_model, meta_graph):
        return keep_first_nodes(_audit_objects(meta_graph))
    return keep_first_nodes(_audit_graph(meta_graph, _may_infer))


def audit_training(meta_graph: Any) -> tuple[ForeignOperation, ...]:
    """Do the same for a graph for training, which may also change variables and draw numbers."""
    updates = _collect_names(meta_graph, [_UPDATES])
    return keep_first_nodes(
        [*_audit_graph(meta_graph, _may_train), *_audit_tensors(meta_graph, updates, _may_train)]
    )


def audit_function(graph_def: Any) -> tuple[ForeignOperation, ...]:
    """Return the foreign operations of a traced function, all of whose nodes are run."""
    graph = _Graph(graph_def)
    return keep_first_nodes(_find_foreign(graph, graph.walk_inputs(graph.nodes), _may_infer))


def loads_objects(saved_model: Any, meta_graph: Any) -> bool:
    """Return whether TensorFlow loads this graph as TF2 objects, by TensorFlow's own test."""
    return len(saved_model.meta_graphs) == 1 and meta_graph.HasField("object_graph_def")


def refuse_foreign(handle: str, path: Path, foreign: tuple[ForeignOperation, ...]) -> None:
    """Refuse a module with foreign operations.

    Raises:
        ModuleError: there are some; the message names them.
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
    """Audit a graph that is loaded as a TF1 graph."""
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
    """Audit the nodes that restore the variables: they may read only the module's checkpoint.

    The nodes that save them are never run, and not audited.
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
    """Audit TF2 objects by the rule for training, because their functions include it."""
    objects = meta_graph.object_graph_def
    names = set(objects.concrete_functions)
    for node in objects.nodes:
        names.update(node.function.concrete_functions)
        names.add(node.bare_concrete_function.concrete_function_name)
        names.add(node.captured_tensor.concrete_function)
    graph = _Graph(meta_graph.graph_def)
    yield from _find_foreign(
        graph, graph.walk_functions(sorted(names & set(graph.functions))), _may_train
    )
    yield from _audit_everywhere(meta_graph, _may_train)


def _audit_everywhere(meta_graph: Any, rule: Rule) -> Iterator[ForeignOperation]:
    """Audit what runs without being reached: in advance, for a shape, or in another's place."""
    graph = _Graph(meta_graph.graph_def)
    yield from _find_foreign(graph, graph.walk_functions(graph.list_stand_ins()), rule)
    for node, name in graph.walk_all():
        if node.op not in graph.functions and audit_ops.runs_on_import(node.op):
            yield ForeignOperation(node.op, name)


def _audit_tensors(
    meta_graph: Any, tensors: Iterable[str], rule: Rule
) -> Iterator[ForeignOperation]:
    graph = _Graph(meta_graph.graph_def)
    return _find_foreign(graph, graph.walk_inputs(map(_get_node_name, tensors)), rule)


def _find_foreign(
    graph: _Graph, nodes: Iterable[tuple[Any, str]], rule: Rule
) -> Iterator[ForeignOperation]:
    """Yield the nodes that may not run, including those that call a missing function."""
    for node, name in nodes:
        # TensorFlow too looks for a function before it looks for an operation.
        allowed = node.op in graph.functions or rule(node)
        if not allowed or not _collect_functions(node.attr.values()) <= set(graph.functions):
            yield ForeignOperation(node.op, name)


def keep_first_nodes(foreign: Iterable[ForeignOperation]) -> tuple[ForeignOperation, ...]:
    """Return each operation once, with its first node."""
    first: dict[str, ForeignOperation] = {}
    for operation in foreign:
        first.setdefault(operation.operation, operation)
    return tuple(first.values())


class _Graph:
    """The nodes and functions of a GraphDef by name, and their dependencies."""

    def __init__(self, graph_def: Any) -> None:
        self.nodes = {node.name: node for node in graph_def.node}
        # All functions of a name: TensorFlow does not define which of them it takes.
        self.functions: dict[str, list[Any]] = {}
        for function in graph_def.library.function:
            self.functions.setdefault(function.signature.name, []).append(function)

    def walk_inputs(self, names: Iterable[str]) -> Iterator[tuple[Any, str]]:
        """Yield the nodes that these depend on by data or control, and those that they call."""
        waiting, seen, called = list(names), set(), set()
        while waiting:
            name = waiting.pop()
            node = self.nodes.get(name)
            if name in seen or node is None:
                continue
            seen.add(name)
            waiting += map(_get_node_name, node.input)
            called |= self._list_called(node)
            yield node, name
        yield from self.walk_functions(sorted(called))

    def walk_functions(self, names: Iterable[str]) -> Iterator[tuple[Any, str]]:
        """Yield the nodes of these functions, and of those that they call in turn."""
        waiting, seen = list(names), set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for node in self.walk_bodies(name):
                waiting += sorted(self._list_called(node))
                yield node, f"{name}/{node.name}"

    def walk_all(self) -> Iterator[tuple[Any, str]]:
        """Yield all nodes, also those in functions, whether they are used or not."""
        yield from ((node, name) for name, node in self.nodes.items())
        for name in self.functions:
            yield from ((node, f"{name}/{node.name}") for node in self.walk_bodies(name))

    def walk_bodies(self, name: str) -> Iterator[Any]:
        """Yield the nodes of the functions of a name."""
        return (node for function in self.functions[name] for node in function.node_def)

    def list_stand_ins(self) -> list[str]:
        """List the functions that may be run in another's place."""
        return [
            name
            for name, functions in self.functions.items()
            if any(_STANDS_IN in function.attr for function in functions)
        ]

    def _list_called(self, node: Any) -> set[str]:
        return {node.op, *_collect_functions(node.attr.values())} & set(self.functions)


def _collect_functions(attributes: Iterable[Any]) -> set[str]:
    """Collect the names of the functions in attributes, and of those bound to them in turn."""
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
    """Collect every tensor that signatures name, in any way."""
    names = []
    for signature in signatures:
        infos = [*signature.inputs.values(), *signature.outputs.values()] if signature else []
        for info in infos:
            sparse = info.coo_sparse
            names += [info.name, sparse.values_tensor_name, sparse.indices_tensor_name]
            names.append(sparse.dense_shape_tensor_name)
            names += [component.name for component in info.composite_tensor.components]
    return names


def _collect_names(meta_graph: Any, collections: Iterable[str]) -> list[str]:
    """Collect the nodes that collections list."""
    present = [key for key in collections if key in meta_graph.collection_def]
    return [name for key in present for name in meta_graph.collection_def[key].node_list.value]


def _collect_variables(meta_graph: Any) -> list[str]:
    """Collect the handles and reads of variables, and what fills those without a checkpoint."""
    from tensorflow.core.framework import variable_pb2

    names = _collect_names(meta_graph, [*_VARIABLES, _LOCAL_VARIABLES])
    for key in {*_VARIABLES, _LOCAL_VARIABLES} & set(meta_graph.collection_def):
        for wire in meta_graph.collection_def[key].bytes_list.value:
            variable = variable_pb2.VariableDef.FromString(wire)
            names += [variable.variable_name, variable.snapshot_name]
            if key == _LOCAL_VARIABLES:
                names.append(variable.initializer_name)
    return names


def _get_node_name(tensor: str) -> str:
    """Return the name of the node of a tensor or of a control input."""
    return tensor.removeprefix("^").partition(":")[0]
