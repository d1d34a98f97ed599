"""The values that everything here is about. No file of this room opens another one, and none judges."""
