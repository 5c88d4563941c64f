import type { IncomingMessage } from 'node:http'
import { Problem } from './problem.ts'

/** Whether a body comes with it (RFC 9112 §6.3). */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

const tooLarge = (most: number) => new Problem(413, 'ERR_LAMEDUCK_OPS_BODY_SIZE', `a body of at most ${most} bytes is taken`, { most })

/** Reads a body, and not more of it than it may have. */
function bytesOf(req: IncomingMessage, most: number, ms: number): Promise<Buffer> {
  if (Number(req.headers['content-length'] ?? 0) > most) return Promise.reject(tooLarge(most))
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    const done = (error?: Error) => {
      clearTimeout(timer)
      req.off('data', more).off('end', end).off('close', gone)
      if (error) reject(error)
      else resolve(Buffer.concat(chunks))
    }
    const more = (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > most) done(tooLarge(most))
      else chunks.push(chunk)
    }
    const end = () => done()
    const gone = () => done(new Problem(400, 'ERR_LAMEDUCK_OPS_BODY', 'the body ended before it was whole'))
    const timer = setTimeout(() => done(new Problem(408, 'ERR_LAMEDUCK_OPS_TIMEOUT', `the request was not whole within ${ms} ms`)), ms)
    req.on('data', more).on('end', end).on('close', gone)
  })
}

/** @throws {SyntaxError | TypeError} */
function parse(bytes: Buffer): unknown {
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes), (name, value: unknown) => {
    // Nobody sends it in good faith, and somebody may merge it.
    if (name === '__proto__') throw new SyntaxError('__proto__')
    return value
  })
}

/**
 * Reads a JSON body.
 *
 * @returns Undefined when there is none.
 * @throws {Problem} 415 `ERR_LAMEDUCK_OPS_BODY_TYPE`; 413 `ERR_LAMEDUCK_OPS_BODY_SIZE`, by its announced length before anything is read;
 *   408 `ERR_LAMEDUCK_OPS_TIMEOUT`; 400 `ERR_LAMEDUCK_OPS_BODY` when it is no JSON object.
 */
export async function readJson(req: IncomingMessage, limits: { bodyBytes: number; requestMs: number }, begin: () => void): Promise<Record<string, unknown> | undefined> {
  if (!hasBody(req)) return undefined
  const type = req.headers['content-type'] ?? ''
  const coded = (req.headers['content-encoding'] ?? 'identity') !== 'identity'
  if (coded || !/^application\/json(?: *; *charset="?utf-8"?)?$/i.test(type)) {
    throw new Problem(415, 'ERR_LAMEDUCK_OPS_BODY_TYPE', 'a body is application/json in UTF-8, without a content coding')
  }
  begin()
  const bytes = await bytesOf(req, limits.bodyBytes, limits.requestMs)
  // Chunked, and then nothing.
  if (bytes.length === 0) return undefined
  let value: unknown
  try {
    value = parse(bytes)
  } catch {
    throw new Problem(400, 'ERR_LAMEDUCK_OPS_BODY', 'the body is no JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Problem(400, 'ERR_LAMEDUCK_OPS_BODY', 'the body is no JSON object')
  return value as Record<string, unknown>
}
