"""The control loop over routes: scores in, new route epochs out. Decisions are pure functions; `loop` reads and writes."""
