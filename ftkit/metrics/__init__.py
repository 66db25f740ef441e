"""evaluate.Metric classes, intervals, paired tests and ranking: a new metric goes here."""
