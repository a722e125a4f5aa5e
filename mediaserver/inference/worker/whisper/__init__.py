"""Whisper for live captions: our own decoder on the weights of a CTranslate2 model."""
