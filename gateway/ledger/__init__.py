"""Double entry: journals, guarded balances, the hash chain that seals them."""
