"""From stimuli and raw recordings to the features that a mapping sees."""
