"""Statements of partners matched with our obligations; breaks and how they are resolved."""
