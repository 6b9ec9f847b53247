"""The HTTP API: requests parsed, operations called, answers written."""
