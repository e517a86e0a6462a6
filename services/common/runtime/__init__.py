"""The stage runtime: one loop for every stage, so that its guarantees are proved once."""
