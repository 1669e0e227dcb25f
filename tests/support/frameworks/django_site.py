"""Django: its cache on Redis, and a view that keeps its session there.

python -m tests.support.frameworks.django_site redis://10.77.0.2:6379
"""

from __future__ import annotations

import json
import sys

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path


def count_visits(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


urlpatterns = [path("visits", count_visits)]


def use_cache() -> None:
    from django.core.cache import cache

    cache.clear()
    cache.set("text", {"nested": ["ä", 1, None]}, timeout=60)
    assert cache.get("text") == {"nested": ["ä", 1, None]}
    assert cache.get("nothing", "instead") == "instead"
    assert cache.add("text", 1) is False
    assert cache.add("number", 5) is True
    assert (cache.incr("number"), cache.decr("number", 2)) == (6, 4)
    cache.set_many({f"key{number}": number for number in range(500)}, timeout=100)
    assert len(cache.get_many([f"key{number}" for number in range(500)])) == 500
    assert cache.touch("key1", 1000) is True
    assert cache.get_or_set("made", lambda: "once") == "once"
    assert cache.get_or_set("made", lambda: "twice") == "once"
    cache.set("versioned", "one", version=1)
    assert cache.incr_version("versioned") == 2
    assert cache.get("versioned", version=2) == "one"
    cache.delete_many(["key1", "key2"])
    assert cache.has_key("key3")
    assert not cache.has_key("key1")
    cache.set("gone", "soon", timeout=0)
    assert cache.get("gone") is None


def visit(rounds: int) -> list[int]:
    from django.test import Client

    visitors = [Client() for _ in range(5)]
    return [int(visitor.get("/visits").content) for _ in range(rounds) for visitor in visitors]


def main(url: str) -> None:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="not one",
        ROOT_URLCONF="tests.support.frameworks.django_site",
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        INSTALLED_APPS=["django.contrib.sessions"],
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}},
    )
    django.setup()
    use_cache()
    print(json.dumps({"visits": visit(20)}))


if __name__ == "__main__":
    main(sys.argv[1])
