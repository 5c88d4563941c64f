import http from 'node:http'
import { randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'

/** A token as they are to be: 32 random bytes. */
export function freshToken(): string {
  return randomBytes(32).toString('base64url')
}

/** Where an endpoint is, as `ops.address` says. */
export interface Target {
  url?: string
  path?: string
}

export interface OpsAnswer {
  status: number
  headers: http.IncomingHttpHeaders
  text: string
  /** The body as JSON. */
  json: Record<string, unknown>
  ms: number
}

export interface OpsAsk {
  method?: string
  token?: string
  body?: unknown
  headers?: Record<string, string>
  agent?: http.Agent
}

function optionsOf({ url, path }: Target, target: string): http.RequestOptions {
  if (path !== undefined) return { socketPath: path, path: target }
  const { hostname, port } = new URL(url ?? '')
  return { host: hostname.replaceAll(/[[\]]/g, ''), port, path: target }
}

/** Asks an endpoint, and reads the answer whole. */
export function ask(target: Target, path: string, { method = 'GET', token, body, headers = {}, agent }: OpsAsk = {}): Promise<OpsAnswer> {
  const began = performance.now()
  const text = body === undefined ? undefined : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const req = http.request({
      ...optionsOf(target, path),
      method,
      agent,
      // An answer that never comes is a failure with a name, not a test that hangs.
      signal: AbortSignal.timeout(60_000),
      headers: {
        ...(token !== undefined && { Authorization: `Bearer ${token}` }),
        ...(text !== undefined && { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) }),
        ...headers,
      },
    }, res => {
      const chunks: Buffer[] = []
      res.on('data', (chunk: Buffer) => chunks.push(chunk))
      res.on('error', reject)
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        let json: Record<string, unknown> = {}
        try {
          json = JSON.parse(text) as Record<string, unknown>
        } catch {
          // Not every answer is JSON.
        }
        resolve({ status: res.statusCode ?? 0, headers: res.headers, text, json, ms: performance.now() - began })
      })
    })
    req.on('upgrade', (_res, socket: Duplex) => socket.destroy())
    req.on('error', reject)
    req.end(text)
  })
}

/** Asks again and again, until the answer is as wished. */
export async function askUntil(target: Target, path: string, how: OpsAsk, is: (answer: OpsAnswer) => boolean, ms = 20_000): Promise<OpsAnswer> {
  const until = performance.now() + ms
  for (;;) {
    const answer = await ask(target, path, how)
    if (is(answer)) return answer
    if (performance.now() > until) throw new Error(`${path} never became as wished: ${answer.status} ${answer.text}`)
    await new Promise(resolve => void setTimeout(resolve, 50))
  }
}

/** Of some numbers, the one that so many percent do not exceed. */
export function percentile(values: number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil((p / 100) * sorted.length) - 1)] ?? Number.NaN
}
