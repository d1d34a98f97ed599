"""Models and loaders as a user writes them. Tests give these files to ``--model`` and ``--loader`` by name."""
