"""What a user of redis-py does with a node: redispy_test.go runs it.

It prints "kill" when the node is to be killed and started again, and goes on
when a line comes in.
"""

import sys
import threading

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

port, protocol = int(sys.argv[1]), int(sys.argv[2])


def connect(**more):
    """Connects without retries: a lost answer could be counted twice."""
    return redis.Redis(port=port, protocol=protocol, retry=Retry(NoBackoff(), 0), **more)


def raises(kind, text, call, *args, **kwargs):
    try:
        got = call(*args, **kwargs)
    except kind as e:
        assert text in str(e), f"error {e!r}, want {text!r}"
    else:
        raise AssertionError(f"answered {got!r}, want the error {text!r}")


r = connect(client_name="test")
r.flushall()
assert r.client_getname() in ("test", b"test")

# Values and errors.
assert r.incrby("a", 5) == 5 and r.get("a") == b"5" and r.get("none") is None
raises(redis.ResponseError, "value is not an integer", r.set, "a", "text")
raises(redis.ResponseError, "WRONGTYPE", r.sadd, "a", "x")
raises(redis.ResponseError, "unknown command 'lpush'", lambda: r.execute_command("lpush", "l", "x"))

# Pipelines, and transactions with a conflict.
p = r.pipeline(transaction=False)
for _ in range(2000):
    p.incr("hot")
assert p.execute() == list(range(1, 2001))
p = r.pipeline()
p.incr("tx").sadd("s", "x", "y").smembers("s")
raises(redis.ResponseError, "smembers is not served in MULTI", p.execute)
assert r.exists("tx", "s") == 0
assert r.pipeline().incr("tx").sadd("s", "x", "y").execute() == [1, 2]
with r.pipeline() as p:
    p.watch("tx")
    r.incr("tx")
    p.multi()
    p.set("tx", 100)
    raises(redis.WatchError, "Watched variable changed", p.execute)
assert r.transaction(lambda p: p.multi() or p.incr("tx"), "tx") == [3]

# Sets, scans, expiry.
assert r.smembers("s") == {b"x", b"y"} and r.smismember("s", ["x", "z"]) == [1, 0]
assert r.srem("s", "x", "z") == 1 and r.scard("s") == 1
r.mset({f"key:{i}": i for i in range(2500)})
assert len(set(r.scan_iter("key:*", count=100))) == 2500
r.sadd("large", *range(2500))
assert len(set(r.sscan_iter("large", count=100))) == 2500
assert r.expire("a", 100) and 90 < r.ttl("a") <= 100 and r.persist("a") and r.ttl("a") == -1

# Request ids.
for _ in range(3):
    assert r.execute_command("QUIPU.ONCE", f"py{protocol}", "INCRBY", "once", 5) == 5
assert r.execute_command("QUIPU.ONCE", f"py{protocol}", "REPLAYED", "INCRBY", "once", 5) == [1, 5]

# Databases, and a tenant by name.
third = connect(db=3)
third.set("a", 3)
named = redis.Redis(port=port, protocol=protocol, single_connection_client=True)
named.execute_command("SELECT", "team")
named.set("a", 9)
assert (r.get("a"), third.get("a"), named.get("a")) == (b"5", b"3", b"9")

# Publish and subscribe are refused.
raises(redis.ResponseError, "unknown command 'publish'", lambda: r.execute_command("publish", "news", "x"))
sub = r.pubsub()
sub.subscribe("news")
raises(redis.ResponseError, "unknown command 'SUBSCRIBE'", sub.parse_response)

# Many clients count exactly.
errors = []


def count():
    try:
        c = connect()
        for _ in range(100):
            c.incr("sum")
    except Exception as e:  # told by the assertion below
        errors.append(e)


threads = [threading.Thread(target=count) for _ in range(10)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert not errors and r.get("sum") == b"1000", errors

# A killed node breaks connections; the same client goes on when it is back.
print("kill", flush=True)
sys.stdin.readline()
raises(redis.ConnectionError, "", r.get, "sum")
print("start", flush=True)
sys.stdin.readline()
assert r.incr("sum") == 1001
print("done", flush=True)
