"""The textbook loop for each job: what somebody writes who thinks of the result only."""
