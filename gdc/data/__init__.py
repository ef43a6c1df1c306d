"""Image files, and the data sets and batches that training reads."""
