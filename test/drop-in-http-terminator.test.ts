import { differentialOfStops, type Scenario, type Side } from './_drop-in.ts'
import { STOPS, answer, busy } from './_drop-in-stops.ts'

const own: Scenario<Side>[] = [
  {
    name: 'No `gracefulTerminationTimeout`, and a request of 1.5 s',
    run: async side => {
      await side.start()
      const client = await busy(side, '/slow?ms=1500')
      await side.ask({ op: 'stop' })
      return answer(client)
    },
  },
  {
    name: 'What a second `terminate()` logs, with `ROARR_LOG=true`',
    run: async side => {
      const before = side.child.stdout.length
      await side.start()
      await side.ask({ op: 'stop', times: 2 })
      await side.stopped()
      await side.stopped()
      // It comes by another pipe, and before this.
      await side.ask({ op: 'say' })
      await side.child.says(/^(said)$/m)
      return side.child.stdout.slice(before).includes('already terminating') ? 'a warning' : 'nothing'
    },
  },
]

differentialOfStops('http-terminator', [...STOPS, ...own], { ROARR_LOG: 'true' })
