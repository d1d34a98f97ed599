"""What a whole model must hold by its ``config.json``: the tables of ``knowledge/architectures``, asked."""
