"""The yardstick: measurements of anything that moves a molecule, one protocol per file."""
