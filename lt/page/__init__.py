"""The report page: one HTML file with all figures, which needs neither a network nor scripts."""
