"""Networks: Linen modules, what they are made of, and their evaluation."""
