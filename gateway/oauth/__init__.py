"""OAuth both ways: the gateway's own authorization server, and its client towards partners."""
