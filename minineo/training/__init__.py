"""Learning: optimisers, their schedule, the data, and the loop that turns them into a trained model."""
