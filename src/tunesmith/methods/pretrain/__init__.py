"""Pre-training: text is continued."""
