"""The tokenizer and its training: configuration, networks, quantizer, losses, loop."""
