"""The ground everything stands on: errors, messages, hashes, files. Read `messages.py` first."""
