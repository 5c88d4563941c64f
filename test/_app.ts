import { setTimeout as sleep } from 'node:timers/promises'
import type { Exchange, Reply } from './_world.ts'

/** What `/big` sends: more than socket buffers hold. */
export const BIG = 20 * 1024 * 1024
const bigBody = Buffer.alloc(BIG, 'lameduck')

const gates = new Map<string, () => void>()

/** Lets the request with this id, which waits in `/gate`, be answered. */
export function release(id: string): void {
  gates.get(id)?.()
}

async function bodyLength(x: Exchange): Promise<number> {
  let length = 0
  for await (const chunk of x.req) length += (chunk as Buffer).length
  return length
}

/** `/raw…`: written to `res` directly, as streaming code does. */
async function raw(x: Exchange): Promise<'raw'> {
  const { res, query } = x
  const ms = Number(query.get('ms') ?? 100)
  const length = query.has('length') ? { 'Content-Length': '10' } : {}
  if (x.path === '/raw/big') {
    res.write(bigBody)
    res.end()
    return 'raw'
  }
  res.writeHead(200, length)
  res.write('first')
  await sleep(ms)
  res.end('-last')
  return 'raw'
}

/**
 * The application of the scenarios. All but `/slow`, `/gate`, `/body` and `/raw…` answer in the same tick, as many handlers do.
 * `/slow?ms=` waits, `/gate` until `release()`, `/body` reads the body first, `/early` does not, `/status?code=` has no body, `/hang` never ends.
 */
export function app(x: Exchange): Reply | 'raw' | Promise<Reply | 'raw'> {
  const { path, query } = x
  if (path === '/slow') return sleep(Number(query.get('ms') ?? 100)).then(() => ({ body: 'slow' }))
  if (path === '/gate') return new Promise(resolve => gates.set(x.id, () => resolve({ body: 'gate' })))
  if (path === '/body') return bodyLength(x).then(length => ({ body: String(length) }))
  if (path === '/early') return { status: 413, body: 'too large' }
  if (path === '/big') return { body: bigBody }
  if (path === '/status') return { status: Number(query.get('code')) }
  if (path === '/hang') return new Promise(() => {})
  if (path === '/throw') throw new Error('thrown by the handler')
  if (path === '/header') return { headers: { Connection: 'keep-alive' }, body: 'hello' }
  if (path === '/length') return { headers: { 'Content-Length': '5' }, body: 'hello' }
  if (path.startsWith('/raw')) return raw(x)
  return { body: 'hello' }
}
