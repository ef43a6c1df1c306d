"""What is learned: pure Linen modules and their local operations."""
