"""Records: a database by URL and files beside it. Knows no torch, no HTTP and no data formats."""
