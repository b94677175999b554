"""What is known of a model in use: answers that were kept, and what people said of them."""
