"""The Redis side: bytes of clients in, bytes of replies out, no I/O and no clock.

    resp -> session -> registry -> commands/* -> keyspace, values -> replies

An `Engine` holds databases and configuration; `Engine.create_session` gives a `Session` per connection.
"""

from appliance.redis.engine import Engine, EngineSettings
from appliance.redis.session import Session

__all__ = ["Engine", "EngineSettings", "Session"]
