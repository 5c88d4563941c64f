import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { hasBody } from './body.ts'
import type { Problem } from './problem.ts'
import type { Reply } from './route.ts'

/** After an early answer: how much of a body that is still on its way is read and dropped, and for how long, before the connection ends. */
const LINGER_BYTES = 2 ** 20
const LINGER_MS = 1_000

/** On every answer. A page sets its own policy. */
const SECURITY = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
} as const

const crossOrigin = (name: string) => name.toLowerCase().startsWith('access-control-')

/** Sets what every answer has; takes away what an application, which we are mounted in, has allowed other origins. */
export function secure(res: ServerResponse): void {
  for (const name of res.getHeaderNames()) if (crossOrigin(name)) res.removeHeader(name)
  for (const [name, value] of Object.entries(SECURITY)) res.setHeader(name, value)
}

/** For a socket without a response object. */
export const SECURITY_LINES = Object.entries(SECURITY).map(([name, value]) => `${name}: ${value}\r\n`).join('')

/** The headers that belong to a problem beside its document. */
function headersOf({ status, more }: Problem): Record<string, string> {
  const headers: Record<string, string> = {}
  if (status === 401) headers['WWW-Authenticate'] = 'Bearer realm="lameduck"'
  if (status === 426) Object.assign(headers, { Upgrade: 'websocket', Connection: 'Upgrade' })
  if (Array.isArray(more.allow)) headers.Allow = more.allow.join(', ')
  if (typeof more.retryAfterMs === 'number') headers['Retry-After'] = String(Math.max(1, Math.ceil(more.retryAfterMs / 1_000)))
  return headers
}

/**
 * Ends an answer whose request is still on its way. Closing at once would reset the connection, and a reset can take the answer away again that
 * is in the client's kernel already (RFC 9112 §9.6): so what comes is read and dropped for a bounded while.
 */
function endEarly(req: IncomingMessage, res: ServerResponse, body: string): void {
  res.write(body)
  // Waits for a 100 that it does not get.
  if (req.headers.expect !== undefined) return void res.end()
  let bytes = 0
  const done = () => {
    clearTimeout(timer)
    req.off('data', count).off('end', done).off('close', done)
    res.end()
  }
  const count = (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > LINGER_BYTES) done()
  }
  const timer = setTimeout(done, LINGER_MS)
  req.on('data', count).once('end', done).once('close', done)
}

/** Sends a problem document. @returns Its bytes. */
export function sendProblem(req: IncomingMessage, res: ServerResponse, problem: Problem): number {
  const body = `${JSON.stringify(problem)}\n`
  const bytes = Buffer.byteLength(body)
  for (const [name, value] of Object.entries(headersOf(problem))) res.setHeader(name, value)
  res.statusCode = problem.status
  res.setHeader('Content-Type', 'application/problem+json')
  res.setHeader('Content-Length', bytes)
  const early = hasBody(req) && !req.complete
  if (early) res.setHeader('Connection', 'close')
  if (req.method === 'HEAD') res.end()
  else if (early) endEarly(req, res, body)
  else res.end(body)
  return req.method === 'HEAD' ? 0 : bytes
}

function drained(res: ServerResponse): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      res.off('drain', done).off('close', done)
      resolve()
    }
    res.on('drain', done).on('close', done)
  })
}

/** Sends a stream as fast as the client takes it. @throws What the stream ended with; before its first piece the head is not out yet. */
async function stream(res: ServerResponse, body: Readable, count: (bytes: number) => void): Promise<void> {
  // A reader that has gone must not keep a source open that waits for its next piece.
  const gone = () => body.destroy()
  res.once('close', gone)
  try {
    for await (const chunk of body as AsyncIterable<Buffer | string>) {
      if (res.destroyed) return
      count(Buffer.byteLength(chunk))
      if (!res.write(chunk)) await drained(res)
    }
    res.end()
  } catch (error) {
    if (!res.destroyed) throw error
  } finally {
    res.off('close', gone)
    body.destroy()
  }
}

/** Sends what a handler returned. Its bytes are counted as they go. */
export async function sendReply(req: IncomingMessage, res: ServerResponse, reply: Reply, count: (bytes: number) => void): Promise<void> {
  const { status = 200, headers = {}, json, type } = reply
  const body = json === undefined ? reply.body : `${JSON.stringify(json)}\n`
  for (const [name, value] of Object.entries(headers)) if (!crossOrigin(name)) res.setHeader(name, value)
  const mediaType = type ?? (json === undefined ? undefined : 'application/json')
  if (mediaType !== undefined) res.setHeader('Content-Type', mediaType)
  res.statusCode = status
  if (body instanceof Readable) {
    if (req.method !== 'HEAD') return stream(res, body, count)
    body.destroy()
    return void res.end()
  }
  const bytes = body === undefined ? 0 : Buffer.byteLength(body)
  if (status !== 204 && status !== 304) res.setHeader('Content-Length', bytes)
  if (req.method === 'HEAD' || body === undefined) return void res.end()
  count(bytes)
  res.end(body)
  return undefined
}
