"""The result for each tensor of a load, and the findings that follow."""
