import asyncio
from tests.traffic.wire.stand import *
from sidecar.model.errors import Refused
from sidecar.traffic.wire.request_head import parse_request
from sidecar.traffic.wire.body import ChunkedBody
import time, pytest

async def test_last_bytes_do_not_pause_a_released_connection(stand):
    s = stand(); far = s.connection(); near = s.client()
    near.says(request()); far.takes(); near.takes_nothing = True
    far.says(OK)
    assert s.pool.idle_count == 1
    assert far.reads

async def test_filtered_small(stand):
    async def f(ex, forward): return await forward(ex)
    s = stand(filtering(f)); far = s.connection(); near = s.client()
    near.says(request()); await turns(); far.says(OK); await turns()
    assert near.takes().endswith(b"ok")
    assert s.pool.idle_count == 1
    assert far.reads

async def test_full_client_new_call(stand):
    s = stand(); far = s.connection(); near = s.client()
    near.says(request()); near.takes_nothing=True; far.says(OK); near.takes()
    far.reads = True
    near.says(request()); await turns()
    assert not far.reads

async def test_guard_stops(stand):
    s = stand(guard(lambda ex: ex.stop("no"), Stage.KILL_SWITCH)); far = s.connection(); near = s.client()
    near.says(b"POST /llm/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    a = near.takes(); assert error_of(a) == "stopped"
    assert s.listener.in_flight == 0
    if not near.has_written_eof and not near.ended:
        near.says(b"hello")
        near.says(request(path=b"/llm/2"))
        assert b"/base/2" in far.takes()

async def test_guard_raises(stand):
    def g(ex): raise ValueError("x")
    s = stand(guard(g, Stage.KILL_SWITCH)); near = s.client()
    near.says(request())
    assert error_of(near.takes()) == "policy_failed"

async def test_permit_raises(stand):
    class P:
        def settle(self, o): raise ValueError("x")
    s = stand(guard(lambda a: a.holds(P()))); far = s.connection(); near = s.client()
    near.says(request())
    far.says(OK)
    assert near.takes().endswith(b"ok")
    assert s.listener.in_flight == 0

async def test_cancelled_filter(stand):
    async def f(ex, forward): raise asyncio.CancelledError
    s = stand(filtering(f)); near = s.client()
    near.says(request()); await turns()
    assert error_of(near.takes()) == "policy_failed"

async def test_filter_returns_dropped(stand):
    async def f(ex, forward):
        r = await forward(ex); r.drop(); return r
    s = stand(filtering(f)); far = s.connection(); near = s.client()
    near.says(request()); await turns(); far.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"); await turns()
    assert error_of(near.takes()) == "policy_failed"

async def test_dup_lengths(stand):
    s = stand(); far = s.connection(); near = s.client()
    near.says(b"POST /llm/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\nhello")
    far.takes(); far.says(OK); near.takes()
    near.says(b"POST /llm/x HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\ncontent-length: 5\r\n\r\nhello12")
    assert error_of(near.takes()) == "bad_content_length"

TP=b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
async def test_smuggle_traceparent(stand):
    s = stand(); far = s.connection(); near = s.client()
    for i in range(3):
        near.says(request(b"GET", b"/llm/x", b"traceparent: "+TP)); assert far.takes(); far.says(OK); near.takes()
    evil = b"x\r\nContent-Length: 30\r\nA: "; evil = evil + b"b"*(55-len(evil))
    near.says(request(b"GET", b"/llm/x", b"traceparent: "+evil))
    assert b"Content-Length: 30" in far.takes()

async def test_chunked_limit(stand):
    s = stand(listener={"max_body_bytes": 10}); far = s.connection(); near = s.client()
    near.says(request(b"POST", b"/llm/x", b"Transfer-Encoding: chunked")+b"14\r\n"+b"x"*20+b"\r\n0\r\n\r\n")
    assert error_of(near.takes()) == "body_bytes"

def test_trailers_cost():
    b = ChunkedBody()
    t = time.perf_counter()
    try: b.payload(b"0\r\n" + b"a:\r\n"*8190)
    except Refused: pass
    assert time.perf_counter()-t < 0.05

async def test_pool_close(stand):
    s = stand(upstream={"max_connections": 1}); far = s.connection(); a = s.client(); b = s.client()
    a.says(request()); b.says(request()); 
    await s.pool.close(); await turns()
    assert not s.pool._making and not s.dialled
    c = s.client(); c.says(request()); await turns()
    assert c.takes() and not s.dialled

def test_te_ows():
    r = parse_request(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked \r\n\r\n", max_count=10, max_url_bytes=100)
    assert r.length == -2

def test_10_keepalive():
    for v in (b"keep-alive", b"Keep-Alive"):
        r = parse_request(b"GET / HTTP/1.0\r\nConnection: %b\r\n\r\n" % v, max_count=10, max_url_bytes=100)
        print(v, r.keep_alive)
        assert r.keep_alive
