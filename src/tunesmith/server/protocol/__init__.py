"""The shapes on the wire: requests forbid what they do not know, replies list every key that clients read."""
