"""Seeds the demo coalition, runs it, and plays its day from outside."""
