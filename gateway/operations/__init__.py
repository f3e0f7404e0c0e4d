"""What operators do beside the product: health, doctor, evidence, backup, recovery."""
