"""What clients see, through the front door, on both databases."""
