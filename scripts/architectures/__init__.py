"""How the architecture tables are made: from classes to configs, models, names and shapes, and patterns in these."""
