"""Offline half of Tessera: trains, evaluates and exports VQ-VAE tokenizers in PyTorch."""
