"""NIR: graphs that real simulators load and that spike the same."""
