"""The composition root: reads the environment, wires the parts, offers the command line."""
