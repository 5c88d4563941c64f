import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Client } from './_client.ts'
import type { Scenario, Side } from './_drop-in.ts'

const later = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

/** The next answer, in words. */
export async function answer(client: Client): Promise<string> {
  try {
    const said = await client.answer()
    return `${said.status}, \`Connection: ${said.header('connection') ?? 'none'}\``
  } catch {
    return client.end === 'open' ? 'no answer yet' : 'no answer'
  }
}

/** One request in flight on a connection of its own. */
export async function busy(side: Side, path: string, options: { polite?: boolean } = {}): Promise<Client> {
  const client = await side.open(options)
  await side.executes(client.request(path))
  return client
}

/** A connection that has answered before, and is idle. */
async function idle(side: Side): Promise<Client> {
  const client = await side.open()
  await side.executes(client.request('/'))
  await client.answer()
  return client
}

/** A request that arrives while the event loop is blocked, right before the stop. */
async function unread(side: Side, send: () => Client): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-drop-in-'))
  try {
    const until = join(folder, 'sent')
    const stop = side.ask({ op: 'stop', until })
    await side.next(({ event }) => event === 'blocking')
    await send().flushed()
    writeFileSync(until, '')
    await stop
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function inFlight(side: Side, secure: boolean): Promise<string> {
  await side.start({ secure })
  const client = await busy(side, '/slow')
  await side.ask({ op: 'stop' })
  const said = await answer(client)
  await client.ended()
  const { code, gracefully } = (await side.stopped()) ?? {}
  return `${said}; then closed; ${code ?? 'no error'}${gracefully === undefined ? '' : `, ${gracefully}`}`
}

/** What both libraries that stop a server when told are asked. */
export const STOPS: Scenario<Side>[] = [
  { name: 'A request in flight', run: side => inFlight(side, false) },
  { name: 'A request in flight over TLS', run: side => inFlight(side, true) },
  {
    name: 'A stream in flight over HTTP/2',
    run: async side => {
      await side.start({ streams: true, limit: 3_000 })
      const peer = side.session()
      const asked = peer.ask('/slow')
      await side.next(({ event }) => event === 'executed')
      await side.ask({ op: 'stop' })
      const { answered, status } = await asked
      const stopped = await side.stopped(2_000)
      return `${answered ? status : 'no answer'}; ${peer.goaways.length > 0 ? 'GOAWAY' : 'no GOAWAY'}; ${stopped ? 'stopped' : 'not stopped soon after it'}`
    },
  },
  {
    name: 'An idle session of HTTP/2',
    run: async side => {
      await side.start({ streams: true, limit: 3_000 })
      const peer = side.session()
      await peer.ask('/')
      await side.ask({ op: 'stop' })
      const stopped = await side.stopped(2_000)
      return `${peer.goaways.length > 0 ? 'GOAWAY' : 'no GOAWAY'}; ${stopped ? 'stopped' : 'not stopped within 2 s'}`
    },
  },
  {
    name: 'A request in flight whose answer has begun, on a connection that the client keeps',
    run: async side => {
      await side.start({ limit: 4_500 })
      const client = await busy(side, '/stream')
      const since = performance.now()
      await side.ask({ op: 'stop' })
      const { text } = await client.answer()
      await side.stopped()
      return `${text === 'begun done' ? 'whole' : 'cut'}; stopped ${performance.now() - since < 3_500 ? 'soon after it' : 'at the limit'}`
    },
  },
  {
    name: 'An idle connection',
    run: async side => {
      await side.start()
      const client = await idle(side)
      await side.ask({ op: 'stop' })
      return `${await client.ended()}; ${(await side.stopped()) ? 'stopped' : 'not stopped'}; ${(await side.ask({ op: 'look' })).closes} \`close\``
    },
  },
  {
    name: 'A request on a kept-alive connection that has arrived and is not read yet',
    run: async side => {
      await side.start()
      const client = await idle(side)
      await unread(side, () => {
        client.request('/')
        return client
      })
      return answer(client)
    },
  },
  {
    name: 'A connection with a request that waits in the accept queue',
    run: async side => {
      await side.start()
      let client: Client | undefined
      await unread(side, () => {
        client = side.dial()
        client.request('/')
        return client
      })
      return answer(client as Client)
    },
  },
  {
    name: 'A client that connects while another request is still being answered',
    run: async side => {
      await side.start({ limit: 20_000 })
      await busy(side, '/hang')
      await side.ask({ op: 'stop' })
      await side.turns()
      const client = side.dial()
      client.request('/')
      const said = await answer(client)
      return client.error === 'ECONNREFUSED' ? 'refused' : `accepted, ${said}`
    },
  },
  {
    name: 'Half a request head, completed 200 ms later',
    run: async side => {
      for (;;) {
        await side.start()
        const client = await side.open()
        const { rest } = client.half('/', { cut: 'head' })
        await side.turns()
        const stopped = performance.now()
        await side.ask({ op: 'stop' })
        await later(200)
        // On a busy machine it may be more: once more, then.
        if (performance.now() - stopped < 600) {
          rest()
          return answer(client)
        }
        await side.end()
      }
    },
  },
  {
    name: 'The next request on that connection, sent as soon as the answer is there',
    run: async side => {
      for (;;) {
        await side.start()
        const client = await busy(side, '/stream', { polite: false })
        await side.ask({ op: 'stop' })
        await client.answer()
        const id = client.request('/')
        const sentAt = Date.now()
        const said = await answer(client)
        const { executed } = await side.ask({ op: 'look' })
        const { at = 0 } = (await side.next(({ event }) => event === 'answered')) ?? {}
        // On a busy machine it may be later: once more, then.
        if (executed?.includes(id) || sentAt - at < 60) return `${executed?.includes(id) ? 'executed' : 'not executed'}, ${said}`
        await side.end()
      }
    },
  },
  {
    name: 'A connection that never sent a byte, of a client that ignores our FIN, on Node 24 and older',
    until: 24,
    run: async side => {
      await side.start()
      await side.open({ polite: false })
      await side.turns()
      await side.ask({ op: 'stop' })
      return (await side.stopped(2_500)) ? 'stopped' : 'not stopped after 2.5 s'
    },
  },
  {
    name: 'A response of 20 MB that the client reads slowly',
    run: async side => {
      await side.start()
      const client = await side.open()
      client.pause()
      await side.executes(client.request('/big'))
      await side.ask({ op: 'stop' })
      await later(300)
      client.resume()
      return client.answer().then(({ text }) => (text.length === 20_000_000 ? 'whole' : 'cut'), () => 'cut')
    },
  },
  {
    name: 'A message on an upgraded connection, 200 ms after the stop',
    run: async side => {
      await side.start()
      const client = await side.open({ polite: false })
      client.request('/', { headers: { Connection: 'Upgrade', Upgrade: 'echo' } })
      await client.answer()
      await side.ask({ op: 'stop' })
      await later(200)
      client.write('ping')
      for (let i = 0; i < 200 && client.tunnelled !== 'ping' && client.end === 'open'; i++) await later(20)
      return client.tunnelled === 'ping' ? 'answered' : 'not answered'
    },
  },
  {
    name: 'A request that outlasts the limit',
    run: async side => {
      await side.start({ limit: 300 })
      const client = await busy(side, '/hang')
      await side.ask({ op: 'stop' })
      const said = await answer(client)
      const { code, gracefully } = (await side.stopped()) ?? {}
      return `${said}; ${code ?? 'no error'}, ${gracefully}`
    },
  },
  {
    name: 'A limit of 0',
    run: async side => {
      await side.start({ limit: 0 })
      const client = await busy(side, '/hang')
      await side.ask({ op: 'stop' })
      const said = await answer(client)
      const { code, gracefully } = (await side.stopped()) ?? {}
      return `${said}; ${code ?? 'no error'}, ${gracefully}`
    },
  },
  {
    name: 'A limit that is text: `\'300\'`',
    run: async side => (await side.start({ limit: '300' })).refused ?? 'taken',
  },
  {
    name: 'Stopped twice at once',
    run: async side => {
      await side.start()
      await side.ask({ op: 'stop', times: 2 })
      const first = await side.stopped()
      const second = await side.stopped()
      return `${first?.code ?? 'no error'}, then ${second?.code ?? 'no error'}`
    },
  },
  {
    name: 'Stopped again afterwards',
    run: async side => {
      await side.start()
      await side.ask({ op: 'stop' })
      await side.stopped()
      await side.ask({ op: 'stop' })
      return (await side.stopped())?.code ?? 'no error'
    },
  },
  {
    name: 'Stopped without ever listening',
    run: async side => {
      await side.start({ listening: false })
      await side.ask({ op: 'stop' })
      const { code, gracefully } = (await side.stopped()) ?? {}
      return `${code ?? 'no error'}, ${gracefully}; ${(await side.ask({ op: 'look' })).closes} \`close\``
    },
  },
]
