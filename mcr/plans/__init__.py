"""The parts of the plan: ends, paths, the repair, and what of a configuration each depends on. No torch here."""
