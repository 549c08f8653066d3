"""Split search on shared histograms: what XORBoost and federated training have in common."""
