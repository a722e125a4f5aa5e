"""Every wire message and problem type. `messages` for sessions, `deepgram`, `problems`."""
