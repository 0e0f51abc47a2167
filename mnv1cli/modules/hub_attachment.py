"""The image size attached to the graph of a hub module, in the hub library's protocol."""

from __future__ import annotations

from typing import Any

# The collection of the graph that holds attachments, and the key of this one.
COLLECTION = "hub_module_attachments"
_KEY = "image_module_info"


def encode_image_size(size: int) -> bytes:
    """Encode a size in pixels as the hub's `AttachedMessage` with an `ImageModuleInfo`."""
    message = _make_message()
    message.key = _KEY
    message.value.default_image_size.height = size
    message.value.default_image_size.width = size
    wire: bytes = message.SerializeToString(deterministic=True)
    return wire


def decode_image_size(attachment: bytes) -> tuple[int, int] | None:
    """Decode height and width from an attachment, None if it is none or lacks one of them."""
    from google.protobuf.message import DecodeError

    message = _make_message()
    try:
        message.ParseFromString(attachment)
    except DecodeError:
        return None
    size = message.value.default_image_size
    if message.key != _KEY or not (size.height and size.width):
        return None
    return size.height, size.width


def _make_message() -> Any:
    """Make an empty `AttachedMessage`: fields and numbers as in the hub library's protocol.

        AttachedMessage  {string key = 1; ImageModuleInfo value = 2;}
        ImageModuleInfo  {ImageSize default_image_size = 1;}
        ImageSize        {int32 height = 1; int32 width = 2;}

    In the hub's own definition `value` is bytes that contain the message, which
    is the same on the wire.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    text, integer, inner = 9, 5, 11  # FieldDescriptorProto.Type: string, int32, message
    fields = {
        "AttachedMessage": [("key", text, ""), ("value", inner, "ImageModuleInfo")],
        "ImageModuleInfo": [("default_image_size", inner, "ImageSize")],
        "ImageSize": [("height", integer, ""), ("width", integer, "")],
    }
    file = descriptor_pb2.FileDescriptorProto(name="mnv1/hub.proto", package="mnv1")
    file.syntax = "proto3"
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        for number, (member, kind, type_name) in enumerate(members, start=1):
            message.field.add(
                name=member,
                number=number,
                label=1,
                type=kind,
                type_name=f".mnv1.{type_name}" if type_name else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("mnv1.AttachedMessage")
    return message_factory.GetMessageClass(descriptor)()
