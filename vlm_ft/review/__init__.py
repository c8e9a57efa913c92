"""Review: people's verdicts on answers, which train the next adapter, and the gate that it must pass."""
