"""The nodes of a graph that the audit follows, in graphs written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from mnv1cli.modules import audit, audit_ops


def make_function(name: str, *operations: str, **attributes: str) -> Any:
    """Make a function with these operations, each a node with its name in lower case."""
    from tensorflow.core.framework import function_pb2

    made = function_pb2.FunctionDef()
    made.signature.name = name
    for operation in operations:
        made.node_def.add(name=operation.lower(), op=operation)
    for key, value in attributes.items():
        made.attr[key].s = value.encode()
    return made


def make_graph(*functions: Any, **nodes: str) -> Any:
    """Make a graph of nodes by name and operation; the last is an output of a signature."""
    from tensorflow.core.protobuf import meta_graph_pb2

    made = meta_graph_pb2.MetaGraphDef()
    made.graph_def.library.function.extend(functions)
    for name, operation in nodes.items():
        made.graph_def.node.add(name=name, op=operation)
        made.signature_def["default"].outputs["default"].name = f"{name}:0"
    return made


def audit_graph(found: Any) -> list[audit_ops.ForeignOperation]:
    from tensorflow.core.protobuf import saved_model_pb2

    return list(audit.audit_module(saved_model_pb2.SavedModel(), found))


def test_functions_that_call_each_other_are_followed_once() -> None:
    first, second = make_function("first", "second"), make_function("second", "first", "WriteFile")
    assert audit_graph(make_graph(first, second, x="first")) == [("WriteFile", "second/writefile")]


def test_all_functions_of_one_name_are_judged() -> None:
    for same in (
        [make_function("f", "WriteFile"), make_function("f")],
        [make_function("f"), make_function("f", "Print")],
    ):
        assert len(audit_graph(make_graph(*same, x="f"))) == 1


def test_function_hides_an_operation_of_its_name_as_it_does_for_tensorflow() -> None:
    assert audit_graph(make_graph(make_function("Relu", "WriteFile"), x="Relu")) == [
        ("WriteFile", "Relu/writefile")
    ]


def test_function_that_stands_in_for_another_is_judged_uncalled() -> None:
    evil = make_function("evil", "WriteFile", api_implements="something")
    assert audit_graph(make_graph(evil, x="NoOp")) == [("WriteFile", "evil/writefile")]
    assert audit_graph(make_graph(make_function("unused", "WriteFile"), x="NoOp")) == []


def test_function_bound_to_an_attribute_of_a_function_is_judged() -> None:
    """A body may call what its caller passes by name."""
    made = make_graph(
        make_function("outer", "NoOp"), make_function("evil", "WriteFile"), x="PartitionedCall"
    )
    passed = made.graph_def.node[0].attr["f"].func
    passed.name = "outer"
    passed.attr["inner"].func.name = "evil"
    assert audit_graph(made) == [("WriteFile", "evil/writefile")]
    passed.attr["inner"].func.name = "missing"
    assert audit_graph(made) == [("PartitionedCall", "x")]


@pytest.mark.parametrize("key", ["saved_model_main_op", "legacy_init_op", "table_initializer"])
def test_initialisers_may_assign_and_do_nothing_else(key: str) -> None:
    for operation, found in (("Assign", []), ("WriteFile", [("WriteFile", "init")])):
        listed, signed = (make_graph(init=operation, x="NoOp") for _ in range(2))
        listed.collection_def[key].node_list.value.append("init")
        signature = signed.signature_def["__saved_model_init_op"]
        signature.outputs["__saved_model_init_op"].name = "init"
        assert audit_graph(listed) == audit_graph(signed) == found
    assert audit_graph(make_graph(x="Assign")) == [("Assign", "x")]


def test_what_fills_local_variables_is_run_on_loading_and_that_of_others_is_not() -> None:
    from tensorflow.core.framework import variable_pb2

    wire = variable_pb2.VariableDef(variable_name="v:0", initializer_name="evil")
    for collection, found in (("variables", []), ("local_variables", [("WriteFile", "evil")])):
        made = make_graph(evil="WriteFile", v="VarHandleOp")
        made.collection_def[collection].bytes_list.value.append(wire.SerializeToString())
        assert audit_graph(made) == found


def test_every_way_to_name_a_tensor_in_a_signature_is_followed() -> None:
    sparse, composite = (make_graph(evil="WriteFile", x="NoOp") for _ in range(2))
    sparse.signature_def["s"].inputs["i"].coo_sparse.values_tensor_name = "evil:0"
    composite.signature_def["s"].outputs["o"].composite_tensor.components.add(name="evil:0")
    for made in (sparse, composite):
        assert audit_graph(made) == [("WriteFile", "evil")]


# What has to pass.
