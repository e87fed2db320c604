"""Where to look (locus), the walk along a path, the table of it, and its summary. Table and summary import no torch."""
