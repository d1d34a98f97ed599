"""Questions to values that several rooms ask: which tensors share bytes, which shards an index means."""
