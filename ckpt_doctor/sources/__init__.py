"""Where a reader gets its bytes from, behind one Protocol."""
