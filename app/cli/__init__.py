"""The commands of `tessera`, by concept."""
