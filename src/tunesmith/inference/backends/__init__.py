"""Engines that answer prompts elsewhere than in this process."""
