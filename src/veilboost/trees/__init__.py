"""Plaintext boosted trees: parameters, the model, its file, its predictions and the oracle of the tests."""
