"""What was presented: images, sounds, films and transcripts."""
