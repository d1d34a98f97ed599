"""The model that a checkpoint is loaded into: which class, built with memory or without, loaded how."""
