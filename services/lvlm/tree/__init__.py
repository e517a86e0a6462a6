"""Tree decoding: one prefix is computed and kept once, and all its branches are decoded as one sequence over it."""
