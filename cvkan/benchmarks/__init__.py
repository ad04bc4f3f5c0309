"""What ``cvkan-bench`` measures: one file a suite, and what the suites share."""
