"""MemGen: its model, its configuration, and its loaders."""
