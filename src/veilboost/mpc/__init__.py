"""Secure multiparty computation on additive shares in Z_2^64 with a dealer; knows no trees."""
