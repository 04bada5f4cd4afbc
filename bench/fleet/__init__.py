"""Many models: throughput against other ways, memory of the driver, kills at random moments."""
