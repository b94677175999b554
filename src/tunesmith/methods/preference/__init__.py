"""Learning from preferences: pairs of answers, or single answers judged good or bad."""
