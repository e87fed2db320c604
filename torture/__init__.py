"""What breaks programs, done to this one: kills, damaged stores, hostile files, values that make no sense."""
