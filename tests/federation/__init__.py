"""Federations of our own, one for every behaviour a gateway must get right, and their judges."""
