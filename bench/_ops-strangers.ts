/** So many requests as fast as they go, 16 at a time: with a token that is none, or of probes, which need none. Arguments: port, count, `probe` for those. */
import http from 'node:http'
import { setPriority } from 'node:os'

const [port, count] = process.argv.slice(2, 4).map(Number) as [number, number]
const probe = process.argv[4] === 'probe'
// They come from other machines: what they cost here themselves is not to come out of the application's time.
setPriority(19)

const agent = new http.Agent({ keepAlive: true, maxSockets: 16 })
const counts: Record<string, number> = {}

process.once('message', () => {
  let left = count
  let open = 16
  const next = () => {
    if (left-- <= 0) {
      if (--open === 0) process.send?.(counts, () => process.exit(0))
      return
    }
    const done = (how: string) => {
      counts[how] = (counts[how] ?? 0) + 1
      next()
    }
    const headers = probe ? {} : { Authorization: `Bearer ${'x'.repeat(43)}` }
    const req = http.get({ host: '127.0.0.1', port, path: probe ? '/readyz' : `/state?${left}`, agent, headers }, res => {
      res.resume().on('end', () => done(String(res.statusCode)))
    })
    req.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? 'error'))
  }
  for (let i = 0; i < 16; i++) next()
})
process.on('disconnect', () => process.exit(1))
process.send?.('ready')
