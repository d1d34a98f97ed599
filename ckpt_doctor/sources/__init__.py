"""Where a reader gets its bytes from: the Protocol in ``source.py``, one implementation in each other file."""
