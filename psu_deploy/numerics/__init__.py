"""Plain numbers that both floors share: noise, and the sigmoid in steps and from a table."""
