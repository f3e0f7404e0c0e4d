"""The one catalog: a projection of the partners' feeds, its search, prices and quotes."""
