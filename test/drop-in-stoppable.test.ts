import { differentialOfStops, type Scenario, type Side } from './_drop-in.ts'
import { STOPS, answer, busy } from './_drop-in-stops.ts'

const own: Scenario<Side>[] = [
  {
    name: 'A request that crosses the FIN of the server',
    run: async side => {
      await side.start()
      // Ignores the FIN, as one does that has sent before it arrives.
      const client = await busy(side, '/stream', { polite: false })
      await side.ask({ op: 'stop' })
      await client.answer()
      await client.ended()
      const id = client.request('/')
      const said = await answer(client)
      const { executed } = await side.ask({ op: 'look' })
      return `${executed?.includes(id) ? 'executed' : 'not executed'}, ${said}`
    },
  },
  {
    name: 'A grace of more than 2^31 − 1 ms',
    run: async side => {
      await side.start({ limit: 2 ** 31 })
      const client = await busy(side, '/slow')
      await side.ask({ op: 'stop' })
      return answer(client)
    },
  },
  {
    name: 'A server that listens again after its stop',
    run: async side => {
      await side.start()
      await side.ask({ op: 'stop' })
      await side.stopped()
      await side.listen()
      const client = await side.open()
      client.request('/')
      const first = await answer(client)
      client.request('/')
      return `${first}; the next on this connection: ${await answer(client)}`
    },
  },
  {
    name: 'The properties that the server gets',
    run: async side => {
      await side.start()
      return `\`${(await side.ask({ op: 'look' })).own?.join('`, `')}\``
    },
  },
]

differentialOfStops('stoppable', [...STOPS, ...own])
