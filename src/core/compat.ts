import type { IncomingMessage, ServerResponse } from 'node:http'
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'

/**
 * An HTTP/2 stream as the request and the response that health endpoints, `admit` and `reject` are written for.
 * Not by an import: node:http2 costs up to 20 ms of a program's start, and most do without it.
 */
export function compat(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): [IncomingMessage, ServerResponse] {
  const { Http2ServerRequest, Http2ServerResponse } = process.getBuiltinModule('node:http2')
  const raw = Object.entries(headers).flatMap(([name, value]) => [name, String(value)])
  // What they lack of HTTP/1's nobody here uses.
  return [new Http2ServerRequest(stream, headers, {}, raw), new Http2ServerResponse(stream)] as unknown as [IncomingMessage, ServerResponse]
}
