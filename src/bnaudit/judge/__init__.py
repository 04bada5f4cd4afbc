"""From numbers to findings. No torch here: rules read the records of a report or of an inspection."""
