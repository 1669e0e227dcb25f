"""Django's channels, kombu's exchanges and Celery's chords: messages to groups, to one, to all, by priority.

python -m tests.support.frameworks.messages redis://10.77.0.2:6379
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from kombu import Connection, Exchange, Queue

from tests.support.frameworks.left import left_by

_PATIENCE_S = 60


async def by_channels(layer: Any) -> dict[str, Any]:
    names = [await layer.new_channel() for _ in range(20)]
    for name in names:
        await layer.group_add("all", name)
    for name in names[:5]:
        await layer.group_discard("all", name)
    await layer.send(names[0], {"type": "one", "text": "ä" * 1000})
    for number in range(10):
        await layer.group_send("all", {"type": "all", "number": number})
    async with asyncio.timeout(_PATIENCE_S):
        first = await layer.receive(names[0])
        received = [[(await layer.receive(name))["number"] for _ in range(10)] for name in names[5:]]
    await layer.send(names[0], {"type": "unread"})
    await layer.flush()
    await layer.close_pools() if hasattr(layer, "close_pools") else None
    return {"first": len(first["text"]), "received": received}


def by_kombu(url: str) -> dict[str, Any]:
    options = {"fanout_prefix": True, "fanout_patterns": True, "priority_steps": [0, 3, 6, 9], "sep": ":"}
    said: dict[str, Any] = {"fanout": [], "topic": [], "priority": []}
    with Connection(f"{url}/0", transport_options=options) as connection:
        news = Exchange("news", "fanout")
        topics = Exchange("topics", "topic")
        jobs = Exchange("jobs", "direct")
        queues = {
            "fanout": [Queue(f"news{number}", news) for number in range(3)],
            "topic": [Queue("cats", topics, "animal.cat.*"), Queue("animals", topics, "animal.#")],
            "priority": [Queue("jobs", jobs, "job", max_priority=10)],
        }
        consumers = []
        for name, wanted in queues.items():

            def take(body: Any, message: Any, name: str = name) -> None:
                said[name].append(body)
                message.ack()

            consumer: Any = connection.Consumer(wanted, callbacks=[take], accept=["json"])
            if name != "priority":
                consumer.consume()
            consumers.append(consumer)
        producer = connection.Producer(serializer="json")
        for number in range(10):
            producer.publish(
                number, exchange=jobs, routing_key="job", declare=[queues["priority"][0]], priority=9 - number
            )
        consumers[-1].consume()
        # A subscription that is not confirmed yet would miss what is sent.
        while len(said["fanout"]) < 3:
            producer.publish("hello", exchange=news)
            try:
                connection.drain_events(timeout=0.5)
            except TimeoutError:
                continue
        for key in ("animal.cat.tom", "animal.dog", "plant"):
            producer.publish(key, exchange=topics, routing_key=key)
        while len(said["topic"]) < 3 or len(said["priority"]) < 10:
            connection.drain_events(timeout=_PATIENCE_S)
        for consumer in consumers:
            consumer.cancel()
    said["fanout"] = sorted(set(said["fanout"]))
    said["topic"].sort()
    return said


def main(url: str) -> None:
    hosts = [f"{url}/1"]
    said = {
        "channels": asyncio.run(by_channels(RedisChannelLayer(hosts))),
        "pubsub": asyncio.run(by_channels(RedisPubSubChannelLayer(hosts))),
        "kombu": by_kombu(url),
        "left": left_by(url),
    }
    print(json.dumps(said, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1])
