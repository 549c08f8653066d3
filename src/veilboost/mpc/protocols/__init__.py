"""Published protocols on shares; one page each in docs/protocols/."""
