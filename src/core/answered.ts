import type { ServerHttp2Stream } from 'node:http2'

/** Tells when the head of a stream's answer is out. */
export function whenAnswered(stream: ServerHttp2Stream, then: () => void): void {
  const { respond } = stream
  stream.respond = (headers, options) => {
    respond.call(stream, headers, options)
    then()
  }
}
