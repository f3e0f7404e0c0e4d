"""What an operator does: health, figures, the doctor; evidence, backup, restore, recovery."""
