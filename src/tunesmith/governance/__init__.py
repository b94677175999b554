"""Who may do what, and what was done: API keys, the audit log. Knows no HTTP and no jobs."""
