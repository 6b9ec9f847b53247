"""The bundles' graphs on ONNX Runtime: loaded, checked, run."""
