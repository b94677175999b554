"""Classification: one of the labels for a prompt, by a head of its own."""
