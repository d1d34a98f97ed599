"""Reports to text and machine formats: one file a format."""
