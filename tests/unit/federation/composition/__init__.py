"""Composition: merging, rules, printing."""
