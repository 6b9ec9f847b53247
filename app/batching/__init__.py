"""One queue and a few runners: all concurrency of the service."""
