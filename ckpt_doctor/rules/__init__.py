"""What can be wrong with a checkpoint: one file a rule."""
