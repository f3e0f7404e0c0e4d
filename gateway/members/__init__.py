"""Members, their consents, and which merchant knows whom."""
