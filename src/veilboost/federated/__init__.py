"""Federated training: clients, aggregators that add shares, and the NVFlare engine."""
