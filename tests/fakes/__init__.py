"""What does one wrong thing, for tests."""
