"""Cut manuals (PDF, Markdown, HTML) into passages, and make questions with answers in the manual's own words."""
