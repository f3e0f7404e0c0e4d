"""Agreements, cover, obligations, windows, netting and payment instructions."""
