"""Offline half of Tessera: trains, evaluates and exports VQ-VAE tokenizers in PyTorch."""

import os

# ONNX Runtime 1.29+ reports usage to its maker unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
