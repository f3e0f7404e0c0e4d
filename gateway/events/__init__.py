"""What happened, told once, in order per object: to merchants' webhooks and to subscribers."""
