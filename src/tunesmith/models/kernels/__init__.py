"""What a training step computes in our own way, because it is faster or needs less memory; the same numbers."""
