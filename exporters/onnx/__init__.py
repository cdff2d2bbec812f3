"""ONNX: the step graph, and onnxruntime to run it."""

from psu_deploy.exporters.onnx.export import export
from psu_deploy.exporters.onnx.runner import OnnxRunner, load
from psu_deploy.exporters.onnx.target import SUFFIX

__all__ = ["SUFFIX", "OnnxRunner", "export", "load"]
