"""Tools for tests: strategies, conformance suites and stores with known answers."""
