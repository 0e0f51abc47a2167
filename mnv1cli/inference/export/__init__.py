"""Modules written in the formats of other programs: TensorFlow Lite, ONNX, SavedModel."""
