"""What the project makes of itself: generated pages, golden messages, packed data."""
