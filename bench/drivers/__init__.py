"""Who makes the load: each driver sends one workload over so many connections for so many seconds."""
