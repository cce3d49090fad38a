"""Films: read, colorized with steady colors part by part, and written."""
