"""Images from folders, what is done to them, and figures of merit for pictures."""
