"""Facts about libraries and file names, as data."""
