"""What decides about captions, pure: words, revisions, policy, endpointing, transcript."""
