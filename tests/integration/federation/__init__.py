"""The router over real HTTP."""
