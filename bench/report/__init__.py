"""What was measured, for people: tables in Markdown, plots in SVG, and one page with all of it."""
