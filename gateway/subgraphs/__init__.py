"""Merchants' own subgraphs: published, judged, composed with ours, activated, rolled back."""
