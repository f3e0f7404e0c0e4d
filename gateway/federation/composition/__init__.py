"""Composition: subgraph SDLs into a supergraph SDL, or coded errors. Pure."""
