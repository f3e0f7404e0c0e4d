"""Subgraphs that throw when called wrongly, the data behind them, and who judges answers."""
