import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2SecureServer, Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import net from 'node:net'

/** Told by what only they have: importing node:http2 costs a program that does not use it up to 20 ms of its start. */
export function isHttp2Server(server: unknown): server is Http2Server | Http2SecureServer {
  return server instanceof net.Server && typeof (server as Partial<Http2Server>).updateSettings === 'function'
}

/** A stream as the request and the response that health checks, `admit` and `reject` are written for. */
export function compat(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): [IncomingMessage, ServerResponse] {
  const { Http2ServerRequest, Http2ServerResponse } = process.getBuiltinModule('node:http2')
  const raw = Object.entries(headers).flatMap(([name, value]) => [name, String(value)])
  // What they lack of HTTP/1's nobody here uses.
  return [new Http2ServerRequest(stream, headers, {}, raw), new Http2ServerResponse(stream)] as unknown as [IncomingMessage, ServerResponse]
}
