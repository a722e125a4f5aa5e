"""Who somebody is and what they may do: users, keys, sessions, tokens, tickets, rate limits."""
