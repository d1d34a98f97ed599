"""Names of a checkpoint to parameters of a live model."""
