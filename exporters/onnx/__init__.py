"""ONNX: the step graph, and onnxruntime to run it."""
