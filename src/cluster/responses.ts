import diagnostics from 'node:diagnostics_channel'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type net from 'node:net'
import { PROBE } from './probe.ts'

/**
 * Counts what a worker has answered, without our own probes. HTTP/1 by Node's diagnostics channel; HTTP/2, of which Node 20 has
 * none, by the sessions of each server: a listener of `stream` on the server itself would be taken for one of the application's.
 */
export class Responses {
  requests = 0
  /** Of those, with a status of 500 or more. */
  errors = 0
  #isReadiness: (path: string) => boolean

  /** @param isReadiness Whether that is where a balancer asks. */
  constructor(isReadiness: (path: string) => boolean) {
    this.#isReadiness = isReadiness
    diagnostics.subscribe('http.server.response.finish', message => {
      const { request, response } = message as { request: IncomingMessage; response: ServerResponse }
      // The raw ones: `headers` are not made until somebody asks for them, and the application may have rewritten the path.
      if (request.rawHeaders.includes(PROBE)) return
      this.#count(response.statusCode, request.url)
    })
  }

  /** Of a server that speaks HTTP/2, its sessions from now on; of any other nothing. */
  watch(server: net.Server): void {
    if (!('updateSettings' in server)) return
    server.on('session', (session: ServerHttp2Session) => {
      session.on('stream', (stream, headers) => this.#follow(stream, headers))
    })
  }

  #follow(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    if (headers[PROBE] !== undefined) return
    stream.once('close', () => {
      const status = stream.aborted ? undefined : stream.sentHeaders?.[':status']
      if (status !== undefined) this.#count(Number(status), headers[':path'])
    })
  }

  #count(status: number, path: string | undefined): void {
    this.requests++
    // Being out of rotation is no error.
    if (status >= 500 && !this.#isReadiness(path ?? '')) this.errors++
  }
}
