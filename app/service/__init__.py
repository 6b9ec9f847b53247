"""The service's life, and operations item by item."""
