"""The Tessera service: FastAPI in front of ONNX Runtime."""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.29+ reports usage to its maker unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
