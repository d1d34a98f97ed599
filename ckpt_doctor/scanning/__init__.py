"""Tensor bytes to what they say: non-finite values, zeros, checksums."""
