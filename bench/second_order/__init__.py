"""The second order by the sweep, by double backward and as a user would write it."""
