/** A scenario of the list that the conformance suite was made from. */
interface Row {
  title: string
  /** Why it is no row of the published matrix, and where it is tested instead. */
  elsewhere?: string
}

const own = (file: string) => `it is about lameduck's own API, which no other library has: ${file}`

/** The list, by number. A scenario of the suite names its number as `row`. */
export const ROWS: Record<number, Row> = {
  1: { title: 'a request collides with the start of the drain' },
  2: { title: 'bytes unread in the kernel\'s buffer at the drain' },
  3: { title: 'an event loop that is blocked 300 ms around the start' },
  4: { title: 'handshakes that wait in the accept queue' },
  5: {
    title: 'a connect between the last accept and the listener\'s close',
    elsewhere: 'on Linux nobody gets in there, elsewhere no server can serve him: counted by `npm run bench -- interval` (those that come back at once: [README](../README.md#options)), and behind proxies ([proxies.md](proxies.md#nginx))',
  },
  6: { title: 'a socket that never sent a byte' },
  7: { title: 'half a head, then silence' },
  8: { title: 'a head or body trickled byte by byte' },
  9: { title: 'half a head, completed 200 ms later' },
  10: { title: 'half a body, completed 200 ms later' },
  11: { title: '20 MB to a slow reader, `end()` called before the drain' },
  12: { title: 'a reader that never reads' },
  13: { title: 'in flight, head not sent' },
  14: { title: 'in flight, head already sent' },
  15: { title: 'a client that ignores `close` and sends on' },
  16: { title: 'three pipelined, the first in flight' },
  17: { title: 'a request after our FIN' },
  18: { title: 'a large upload refused early' },
  19: { title: '`Expect: 100-continue` in flight, and during the drain' },
  20: { title: 'HEAD, 204, 304' },
  21: { title: 'HTTP/1.0, with and without keep-alive' },
  22: { title: 'the application sets `Connection: keep-alive`, or raw header arrays in `writeHead`' },
  23: { title: 'a CONNECT tunnel, and other upgraded sockets' },
  24: { title: 'an upgrade asked for in the drain' },
  25: { title: 'a WebSocket, idle or with messages in flight' },
  26: { title: 'a WebSocket peer that never answers the close frame' },
  27: { title: 'server-sent events' },
  28: { title: 'an idle HTTP/2 session' },
  29: { title: 'an HTTP/2 stream that races GOAWAY' },
  30: { title: 'rapid resets, PING or SETTINGS floods in the drain' },
  31: { title: 'a TLS handshake not begun, or half done' },
  32: { title: 'TLS in flight, idle' },
  33: { title: 'a unix-socket listener' },
  34: { title: '`wrap` before listen, after, twice, with open sockets', elsewhere: own('test/drain-wrap.test.ts') },
  35: { title: 'drain before listening, twice, after `close()` by the user\'s code', elsewhere: own('test/drain-phases.test.ts') },
  36: { title: 'several servers, one deadline', elsewhere: own('test/drain-servers.test.ts') },
  37: { title: 'a hook throws; a hook hangs', elsewhere: own('test/drain-hooks.test.ts') },
  38: { title: 'a handler that never ends' },
  39: {
    title: 'a handler that throws in the drain',
    elsewhere: 'node:http turns no exception into a 500, a framework does: test/conformance-{express,koa,hapi}.test.ts',
  },
  40: { title: 'two SIGTERMs; SIGTERM during start-up', elsewhere: 'it ends the process that the suite runs in: test/drain-process.test.ts' },
  41: { title: 'the wall clock jumps', elsewhere: own('test/drain-phases.test.ts') },
  42: {
    title: 'EMFILE at the drain',
    elsewhere: 'it takes every descriptor of the process that the suite runs in: test/drain-cost.test.ts, "out of file descriptors"',
  },
  43: {
    title: '10,000 idle sockets, and no stall',
    elsewhere: 'measured for each library by `npm run bench -- idle` ([README](../README.md#measured): lameduck stands still for 14 to 16 ms there); 2,000 (`LAMEDUCK_IDLE=10000`: as many) in test/drain-sweep.test.ts, "thousands of idle connections"',
  },
  44: {
    title: '100,000 connections and aborted requests, and nothing kept',
    elsewhere: 'it is about memory, not about a client: 4,000 (`LAMEDUCK_CHURN=100000`: as many) in test/drain-cost.test.ts, "thousands of connections"',
  },
  45: { title: 'readiness and liveness in each phase' },
  46: { title: 'no ghost in any of the above', elsewhere: 'counted at the end of every scenario, and a failure of it' },
}
