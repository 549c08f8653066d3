"""Federated training: rows stay with their clients, sums of gradients meet on the aggregators' shares."""
