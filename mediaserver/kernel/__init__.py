"""What everything else stands on: ids, clocks, errors, logging, owned tasks, bounded channels."""
