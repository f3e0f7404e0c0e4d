"""Double entry: journals and guarded balances."""
