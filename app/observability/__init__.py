"""What an operator sees: metrics, logs, traces, and what is known of each request."""
