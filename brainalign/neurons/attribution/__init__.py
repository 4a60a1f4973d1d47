"""What of a stimulus, of a layer or of a recording drives a neuroid, and whether an attribution can be believed."""
