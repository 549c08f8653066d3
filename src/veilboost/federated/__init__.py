"""Federated learning: clients keep their rows and send updates that no server can read.

Start reading at `client.py` (what a client does) and `training.py` (what the aggregators do).
"""
