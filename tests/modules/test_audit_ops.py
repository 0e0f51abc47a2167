"""The operations that a graph may have."""

from __future__ import annotations

import pytest

from mnv1cli.modules import audit_ops

READING = "ReadFile MatchingFiles ImmutableConst DecodeProtoV2 EncodeProto GenerateVocabRemapping"
WRITING = "WriteFile SaveV2 Save MergeV2Checkpoints DebugIdentity DebugIdentityV2 DumpTensor"
WORLD = (
    "Print PrintV2 Abort PyFunc PyFuncStateless EagerPyFunc RemoteCall RpcCall Send Recv "
    "XlaCustomCallV2 XlaCallModule FileSystemSetConfiguration SymbolicGradient BatchFunction"
)
DATA = (
    "TextLineDataset TFRecordDataset SnapshotDataset SnapshotDatasetV2 CacheDataset ReaderRead "
    "MapDataset QueueDequeue IteratorGetNext LookupTableFindV2 LookupTableFind HashTableV2 "
    "InitializeTableFromTextFileV2 InitializeTableFromTextFile LoadAndRemapMatrix Restore"
)


@pytest.mark.parametrize("operation", f"{READING} {WRITING} {WORLD} {DATA}".split())
def test_operation_is_foreign_in_every_graph(operation: str) -> None:
    assert audit_ops.find_definition(operation) is not None
    assert not audit_ops.infers(operation)
    assert not audit_ops.trains(operation)


@pytest.mark.parametrize("operation", [*READING.split(), "DebugIdentity", "Abort"])
def test_operation_that_shapes_could_depend_on_is_foreign_wherever_it_is(operation: str) -> None:
    assert audit_ops.runs_on_import(operation)


def test_no_operation_that_computes_takes_what_could_be_a_name() -> None:
    """Accept only listed texts, whatever another version of TensorFlow brings."""
    for operation in list_operations():
        if audit_ops.computes(operation) and not audit_ops._ON_TEXTS.fullmatch(operation):
            definition = audit_ops.find_definition(operation)
            assert not definition.is_stateful
            kinds = {each.type for each in [*definition.input_arg, *definition.attr]}
            assert not kinds & {7, "func", "list(func)"}, operation


def list_operations() -> list[str]:
    import tensorflow.python.client.pywrap_tf_session as session
    from tensorflow.core.framework import op_def_pb2

    listed = op_def_pb2.OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
    return [each.name for each in listed.op]
