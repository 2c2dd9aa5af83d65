"""What numbers can carry: intervals, paired tests, power."""
