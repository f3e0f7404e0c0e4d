"""What operators do beside the running product: verify evidence, back up, restore, recover."""
