"""Branch and bound on the gates of a network."""
