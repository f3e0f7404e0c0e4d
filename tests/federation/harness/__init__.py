"""Subgraphs that throw when they are called wrongly, the data behind them, and who judges answers."""
