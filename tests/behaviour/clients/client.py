"""client.py KIND PORT: a client library, driven from outside.

Each line of input is an expression in c, a client of that port of 127.0.0.1.
Its value, or the library's exception, is printed on one line.
"""
import sys
import time
import traceback


def pymemcache_client(port, **options):
    from pymemcache.client.base import Client
    return Client(("127.0.0.1", port), **options)


def pymemcache_pool(port):
    from pymemcache import serde
    from pymemcache.client.hash import HashClient
    return HashClient(["127.0.0.1:%d" % port], use_pooling=True,
                      serde=serde.pickle_serde, default_noreply=False)


def pylibmc_client(port, **options):
    import pylibmc
    return pylibmc.Client(["127.0.0.1:%d" % port], **options)


def python_memcached(port):
    import memcache
    return memcache.Client(["127.0.0.1:%d" % port], cache_cas=True)


def bmemcached_client(port):
    import bmemcached
    return bmemcached.Client(["127.0.0.1:%d" % port])


def django_cache(port, backend):
    from django import conf
    from django.core import cache
    conf.settings.configure(CACHES={"default": {
        "BACKEND": "django.core.cache.backends.memcached." + backend,
        "LOCATION": "127.0.0.1:%d" % port}})
    return cache.caches["default"]


KINDS = {
    "pymemcache": pymemcache_client,
    "pymemcache-pool": pymemcache_pool,
    "pylibmc": lambda port: pylibmc_client(port, behaviors={"cas": True}),
    "pylibmc-binary": lambda port: pylibmc_client(port, binary=True),
    "python-memcached": python_memcached,
    "bmemcached": bmemcached_client,
    "django-pymemcache": lambda port: django_cache(port, "PyMemcacheCache"),
    "django-pylibmc": lambda port: django_cache(port, "PyLibMCCache"),
}


def from_library(error):
    """Whether a library raised it on purpose: a wrong line is no outcome."""
    return isinstance(error, ValueError) or (
        type(error).__module__.split(".")[0] in
        ("pymemcache", "pylibmc", "_pylibmc", "memcache", "bmemcached"))


def evaluate(line, names):
    try:
        return repr(eval(line, names))
    except Exception as error:
        if not from_library(error):
            raise
        return "".join(traceback.format_exception_only(error)).strip()


def main():
    kind, port = sys.argv[1:]
    names = {"c": KINDS[kind](int(port)), "kept": {}, "time": time}
    for line in sys.stdin:
        print(evaluate(line, names), flush=True)


if __name__ == "__main__":
    main()
