"""Tables and summaries of what was measured over a subspace. No torch here."""
