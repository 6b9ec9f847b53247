"""Every figure that is reported about a tokenizer."""
