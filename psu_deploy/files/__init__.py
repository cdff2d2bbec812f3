"""Files: written whole or not at all, read without believing what they claim."""
