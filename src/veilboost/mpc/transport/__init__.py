"""How frames travel between participants: in memory between threads, or over mutual TLS between processes."""
