"""What both heads stand on: units, states, files, metrics, layers, data and training glue."""
