"""What became of each tensor of a load, and which findings follow."""
