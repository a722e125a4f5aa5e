"""Live sessions: a member, its tracks, and what it is sent."""
