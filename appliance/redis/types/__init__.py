"""The types that a key may hold beyond strings, apart from the commands on them: one module per type."""
