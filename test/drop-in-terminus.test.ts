import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe } from 'node:test'
import { Child } from './_child.ts'
import { Client } from './_client.ts'
import { differential, type Scenario } from './_drop-in.ts'
import { answer } from './_drop-in-stops.ts'
import { peerOf } from './_http2.ts'
import type { TerminusService } from './fixtures/drop-in-terminus.ts'

const later = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

interface Service {
  child: Child
  open(server?: number): Promise<Client>
  /** Asks on a connection of its own. @returns Status and body. */
  get(path: string, server?: number): Promise<string>
  /** How the process ended. */
  end(ms?: number): Promise<string>
  /** Which hooks ran, in order. */
  hooks(): string
}

/** A file that tells a blocked process to go on. */
const SENT = join(tmpdir(), `lameduck-terminus-${process.pid}`)
after(() => rmSync(SENT, { force: true }))

type Whose = 'original' | 'drop-in'

/** Makes what follows process 1 of a namespace; root may, if the container that the tests run in lets it. */
const UNSHARE = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child']
const unshares = spawnSync(UNSHARE[0] ?? '', [...UNSHARE.slice(1), 'true']).status === 0

/** A scenario that is told by a service and what is done to it. */
function scenario(name: string, how: TerminusService, run: (service: Service) => Promise<string>): Scenario<Whose> {
  return { name, run: whose => serve(whose, how, run) }
}

async function serve(whose: Whose, how: TerminusService, run: (service: Service) => Promise<string>): Promise<string> {
  const shell = how.first ? { shell: `exec ${UNSHARE.join(' ')} "$0" "$@"` } : {}
  const child = new Child('drop-in-terminus.ts', [whose, JSON.stringify(how)], { ...shell, peer: whose === 'original' })
  const clients: Client[] = []
  const open = async (server = 0) => {
    const client = await Client.open({ host: '127.0.0.1', port: Number(await child.says(new RegExp(`^port${server} (\\d+)`, 'm'))) })
    clients.push(client)
    return client
  }
  const end = async (ms = 20_000) => {
    const exit = await Promise.race([child.exited, later(ms).then(() => undefined)])
    if (!exit) return 'still running'
    return exit.signal ? `ends by ${exit.signal}` : `exit code ${exit.code}`
  }
  const get = async (path: string, server = 0) => {
    const client = await open(server)
    client.request(path)
    return client.answer().then(({ status, text }) => `${status} ${text}`, async () => `no answer, ${await end()}`)
  }
  const hooks = () => [...child.stdout.matchAll(/^hook (.*)$/gm)].map(([, name]) => name).join(', ') || 'no hook'
  try {
    if (how.first) await child.says(/^(pid 1)$/m)
    else if (how.starting) await child.says(/^(starting)/m)
    else for (const i of (how.options ?? [{}]).keys()) await child.says(new RegExp(`^port${i} (\\d+)`, 'm'))
    return await run({ child, open, get, end, hooks })
  } finally {
    for (const client of clients) client.destroy()
    await child.close()
  }
}

/** A request in flight. */
async function busy({ child, open }: Service, path: string, server = 0): Promise<Client> {
  const client = await open(server)
  client.request(path)
  await child.says(new RegExp(`^executed (${path.replace(/\?.*/, '')})`, 'm'))
  return client
}

const HEALTH: Scenario<Whose>[] = [
  scenario('Checks that succeed and fail', { checks: { '/ok': 'ok', '/info': 'info', '/fails': 'fails', '/slow': 'failsSlowly', '/says': 'says', '/causes': 'causes' } },
    async ({ get }) => [await get('/ok'), await get('/info'), await get('/fails'), await get('/slow'), await get('/says'), await get('/causes'), await get('/')].join('; ')),
  scenario('Status codes, answers and headers of your own', {
    checks: { '/ok': 'ok', '/fails': 'fails', '/state': 'state' },
    options: [{ statusOk: 201, statusOkResponse: { status: 'up' }, statusError: 500, statusErrorResponse: { status: 'down' }, headers: { 'X-Own': 'yes', 'Content-Type': 'text/x' } }],
  }, async ({ open, get }) => {
    const client = await open()
    client.request('/ok')
    const first = await client.answer()
    return `${first.status} ${first.text} ${first.header('x-own')} ${first.header('content-type')}; ${await get('/fails')}; ${await get('/state')}`
  }),
  scenario('`caseInsensitive`', { checks: { '/hEalth': 'ok' }, options: [{ caseInsensitive: true }] }, async ({ get }) => `${await get('/HEALTH')}; ${await get('/health')}`),
  scenario('HEAD, POST', { checks: { '/ok': 'ok' } }, async ({ open }) => {
    const client = await open()
    client.request('/ok', { method: 'HEAD' })
    const head = await client.answer()
    client.request('/ok', { method: 'POST', body: 'body' })
    const post = await client.answer()
    return `${head.status} ${head.text}, ${post.status} ${post.text}`
  }),
  scenario('A probe with a query string', { checks: { '/ok': 'ok' } }, ({ get }) => get('/ok?probe=1')),
  scenario('A check with info after another one, `verbatim`', { checks: { '/info': 'info', '/other': 'other' }, verbatim: true }, async ({ get }) => {
    await get('/info')
    return get('/other')
  }),
  scenario('A check that fails without reasons after one with reasons, with its own answer', { checks: { '/causes': 'causes', '/says': 'says' } }, async ({ get }) => {
    await get('/causes')
    return get('/says')
  }),
  scenario('Two servers with a `statusOkResponse` each: the first one says', {
    checks: { '/ok': 'ok' }, options: [{ statusOkResponse: { status: 'one' } }, { statusOkResponse: { status: 'two' } }],
  }, ({ get }) => get('/ok', 0)),
  scenario('`caseInsensitive` and `__unsafeExposeStackTraces`', { checks: { '/causes': 'causes' }, stacks: true, options: [{ caseInsensitive: true }] },
    async ({ get }) => ((await get('/causes')).includes('"stack"') ? 'stacks' : 'no stacks')),
  scenario('An application that is put on the server afterwards', { checks: { '/ok': 'ok' }, late: true }, ({ get }) => get('/ok')),
  scenario('A check that rejects with nothing', { checks: { '/nothing': 'nothing' } }, ({ get }) => get('/nothing')),
  scenario('A check whose info JSON cannot say', { checks: { '/circular': 'circular' } }, ({ get }) => get('/circular')),
  scenario('The properties that the server gets', {}, ({ child }) => child.says(/^properties (.*)$/m)),
  scenario('The array given as `signals`', { options: [{ signals: ['SIGINT'] }] }, ({ child }) => child.says(/^(signals .*)$/m)),
]

const SHUTDOWN: Scenario<Whose>[] = [
  scenario('SIGTERM', {}, async ({ child, end, hooks }) => {
    child.kill('SIGTERM')
    return `${await end()}; ${hooks()}`
  }),
  scenario('SIGTERM, `useExit0`', { options: [{ useExit0: true }] }, async ({ child, end, hooks }) => {
    child.kill('SIGTERM')
    return `${await end()}; ${hooks()}`
  }),
  scenario('`signal` and `signals`', { options: [{ signal: 'SIGUSR2', signals: ['SIGINT'] }] }, async ({ child, end, hooks }) => {
    child.kill('SIGINT')
    return `${await end()}; ${hooks()}`
  }),
  scenario('A second signal right after the first', { hooks: { onSignal: 600 } }, async ({ child, end, hooks }) => {
    child.kill('SIGTERM')
    await child.says(/^hook (onSignal)/m)
    child.kill('SIGTERM')
    return `${await end()}; ${hooks()}`
  }),
  scenario('A health check and a stream in flight over HTTP/2', { streams: true, checks: { '/ok': 'ok' } }, async ({ child, end, hooks }) => {
    const peer = peerOf(http2.connect(`http://127.0.0.1:${await child.says(/^port0 (\d+)/m)}`))
    const probe = await peer.ask('/ok')
    const asked = peer.ask('/slow')
    await child.says(/^executed (\/slow)/m)
    child.kill('SIGTERM')
    const { answered, status } = await asked
    return `${probe.status} ${probe.text}; ${answered ? status : 'no answer'}; ${peer.goaways.length > 0 ? 'GOAWAY' : 'no GOAWAY'}; ${await end()}; ${hooks()}`
  }),
  scenario('A request in flight at SIGTERM', {}, async service => {
    const client = await busy(service, '/slow')
    service.child.kill('SIGTERM')
    return `${await answer(client)}; ${await service.end()}`
  }),
  scenario('A request that outlasts `timeout`', { options: [{ timeout: 300 }] }, async service => {
    const client = await busy(service, '/hang')
    service.child.kill('SIGTERM')
    return `${await answer(client)}; ${await service.end()}; ${service.hooks()}`
  }),
  scenario('A request on a kept-alive connection that has arrived and is not read yet at SIGTERM', { blockUntil: SENT }, async service => {
    rmSync(SENT, { force: true })
    const client = await busy(service, '/')
    await client.answer()
    service.child.kill('SIGTERM')
    await service.child.says(/^(blocking)/m)
    client.request('/')
    await client.flushed()
    writeFileSync(SENT, '')
    return `${await answer(client)}; ${await service.end()}`
  }),
  scenario('A request, and a health check, while `beforeShutdown` runs', { checks: { '/ok': 'ok' }, hooks: { beforeShutdown: 'told' } }, async ({ child, open, get, end }) => {
    const client = await open()
    child.kill('SIGTERM')
    await child.says(/^hook (beforeShutdown)/m)
    client.request('/')
    const said = `${await answer(client)}; ${await get('/ok')}`
    child.kill('SIGUSR2')
    return `${said}; ${await end()}`
  }),
  scenario('The headers of a health check that fails because of the shutdown', {
    checks: { '/ok': 'ok' }, hooks: { beforeShutdown: 'told' }, options: [{ headers: { 'X-Own': 'yes' } }],
  }, async ({ child, open }) => {
    const client = await open()
    child.kill('SIGTERM')
    await child.says(/^hook (beforeShutdown)/m)
    client.request('/ok')
    return (await client.answer()).header('x-own') ?? 'none'
  }),
  scenario('`sendFailuresDuringShutdown: false`', {
    checks: { '/state': 'state' }, hooks: { beforeShutdown: 'told', onSendFailureDuringShutdown: 0 }, options: [{ sendFailuresDuringShutdown: false }],
  }, async ({ child, get, end, hooks }) => {
    child.kill('SIGTERM')
    await child.says(/^hook (beforeShutdown)/m)
    const said = await get('/state')
    child.kill('SIGUSR2')
    return `${said}; ${await end()}; ${hooks()}`
  }),
  scenario('`onSendFailureDuringShutdown`', { checks: { '/ok': 'ok' }, hooks: { beforeShutdown: 'told', onSendFailureDuringShutdown: 50 } }, async ({ child, get, end, hooks }) => {
    child.kill('SIGTERM')
    await child.says(/^hook (beforeShutdown)/m)
    const said = await get('/ok')
    child.kill('SIGUSR2')
    return `${said}; ${await end()}; ${hooks()}`
  }),
  scenario('`onSendFailureDuringShutdown` that rejects', { checks: { '/ok': 'ok' }, hooks: { beforeShutdown: 'told', onSendFailureDuringShutdown: 'fails' } }, async ({ child, get, end, hooks }) => {
    child.kill('SIGTERM')
    await child.says(/^hook (beforeShutdown)/m)
    const [said] = (await get('/ok')).split(',')
    child.kill('SIGUSR2')
    return `${said}; ${await end()}; ${hooks()}`
  }),
  scenario('`beforeShutdown` that rejects, with a request in flight', { hooks: { beforeShutdown: 'fails' } }, async service => {
    const client = await busy(service, '/slow')
    service.child.kill('SIGTERM')
    return `${await answer(client)}; ${await service.end()}; ${service.hooks()}`
  }),
  scenario('`onSignal` that rejects', { hooks: { onSignal: 'fails' } }, async ({ child, end, hooks }) => {
    child.kill('SIGTERM')
    return `${await end()}; ${hooks()}; ${/^log .*/m.exec(child.stdout)?.[0]}`
  }),
  scenario('`onSignal` that hangs, with `hookTimeout: 300`', { hooks: { onSignal: 'hangs' }, options: [{ hookTimeout: 300 }] }, async ({ child, end, hooks }) => {
    child.kill('SIGTERM')
    return `${await end(4_000)}; ${hooks()}`
  }),
  scenario('`onSignal` that hangs, and a second signal 1.5 s later', { hooks: { onSignal: 'hangs' } }, async ({ child, end, hooks }) => {
    child.kill('SIGTERM')
    await child.says(/^hook (onSignal)/m)
    await later(1_500)
    child.kill('SIGTERM')
    return `${await end(4_000)}; ${hooks()}`
  }),
  scenario('SIGTERM before the server listens', { starting: true }, async ({ child, end, hooks }) => {
    child.kill('SIGTERM')
    return `${await end()}; ${hooks()}`
  }),
  {
    ...scenario('SIGTERM to the first process of a container', { first: true }, ({ end }) => end(4_000)),
    skip: !unshares && 'no namespaces here',
  },
  scenario('Two servers with `useExit0`, one of them with a request in flight', { options: [{ useExit0: true }, { useExit0: true }] }, async service => {
    const client = await busy(service, '/slow?ms=600', 1)
    service.child.kill('SIGTERM')
    return `${await answer(client)}; ${await service.end()}`
  }),
]

// A child process takes its time to start: as many at once as there are cores, or so.
describe('@godaddy/terminus and lameduck/terminus', { concurrency: 2 }, () => {
  differential('lameduck/terminus', [...HEALTH, ...SHUTDOWN], whose => whose)
})
