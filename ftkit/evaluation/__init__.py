"""Whether it got better: answers, scores, intervals, and the report of a run."""
