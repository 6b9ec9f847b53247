"""The `tessera` command: the service, and its operations on files."""
