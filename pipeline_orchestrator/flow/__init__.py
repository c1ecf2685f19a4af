"""What a stage is made of, and the loop that runs it."""
