"""One self-contained HTML page an index: numbers first (pure modules), then drawings of them, then the page.

After "Leveraging a foundation model zoo for cell similarity search", Frontiers in Oncology 2025, section 3.1,
figures 5 and 6, tables 1 and 2; what is ours is said where it stands.
"""
