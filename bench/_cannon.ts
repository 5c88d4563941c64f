/** The load of the overhead bench: autocannon, in a process of its own that stays, so that it is warm like the servers. */
import autocannon from 'autocannon'

export interface Shot {
  port: number
  requests: number
  connections: number
}

export interface Hit {
  /** From the first request to the last response. */
  seconds: number
}

process.on('message', (shot: Shot) => {
  fire(shot).then((hit) => process.send?.(hit), (error: unknown) => {
    console.error(error)
    process.exit(1)
  })
})
process.on('disconnect', () => process.exit(1))
process.send?.('ready')

async function fire({ port, requests, connections }: Shot): Promise<Hit> {
  let last = 0
  const startedAt = performance.now()
  const options = { url: `http://127.0.0.1:${port}/`, amount: requests, connections, sampleInt: 10 }
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const instance = autocannon(options, (error: unknown, value) => error ? reject(error) : resolve(value))
    instance.on('response', () => { last = performance.now() })
  })
  if (result.errors > 0 || result.non2xx > 0 || result['2xx'] !== requests) {
    throw new Error(`${result['2xx']} of ${requests} answered, ${result.errors} errors, ${result.non2xx} not 2xx`)
  }
  return { seconds: (last - startedAt) / 1000 }
}
