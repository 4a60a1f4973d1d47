"""Numbers only: plain numpy or torch arrays in and out, no labels, no files, no global state."""
