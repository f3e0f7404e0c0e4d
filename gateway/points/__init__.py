"""Programmes, lots, holds and earnings: points as the member sees them."""
