"""What neuroids respond to, by statistics of responses alone."""
