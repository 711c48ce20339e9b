"""Events come in: parse the body, judge each row, append to the log, answer with a verdict per row."""
