"""The HTTP service: the API that clients of the hosted one speak, and Tunesmith's own beside it."""
