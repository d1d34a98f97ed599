"""A directory to a checkpoint: which files belong together and what each must hold."""
