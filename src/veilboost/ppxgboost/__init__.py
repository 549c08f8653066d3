"""Encrypted prediction: personal encrypted models, encrypted queries."""
