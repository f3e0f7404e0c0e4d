"""The red lines: basis, recipient, licence, budget, four eyes; and the decision log."""
