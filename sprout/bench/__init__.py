"""Speed, side by side with others' own code in the same run: what is ours is a ratio, never a time by itself."""
