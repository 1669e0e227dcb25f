"""Programs that use real frameworks, each run in an appliance's namespace by tests/system/test_frameworks.py.

Each takes the URL of the Redis, asserts what it expects, and prints one line of JSON with what the test looks at.
"""
