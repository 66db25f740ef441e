"""What goes to the Hub, checked, in one commit, and loaded back."""
