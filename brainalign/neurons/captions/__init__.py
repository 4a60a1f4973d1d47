"""What neuroids say: top stimuli, labels, sentences, and how true they are."""
