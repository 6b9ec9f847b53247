"""The Tessera service: FastAPI in front of ONNX Runtime."""
