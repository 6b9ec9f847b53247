"""A trained tokenizer as a bundle: graphs, precisions, the parity proof, the card."""
