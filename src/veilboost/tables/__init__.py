"""What an owner has: columns, their public description, their cells and their bins."""
