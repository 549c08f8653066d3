"""Jobs: what participants agree on, and the roles that carry it out."""
