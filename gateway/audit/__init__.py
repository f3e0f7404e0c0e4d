"""Evidence: one hash chain over every sealed table, its signed heads, the log of decisions."""
