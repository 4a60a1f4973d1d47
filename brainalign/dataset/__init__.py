"""Opening, joining, splitting, averaging and simulating labelled responses."""
