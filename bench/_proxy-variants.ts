/** Our rows: the examples as they are, and what becomes of them when one thing is different. */
import type { ProxyName } from './_proxy-start.ts'

export interface Variant {
  /** In words. */
  what?: string
  /** Changes the app of the example. */
  app?: (text: string) => string
  /** Changes the configuration of the example. */
  configuration?: (text: string) => string
  /** The instances listen on unix sockets. */
  sockets?: boolean
  paceMs?: number | undefined
}

/** Replaces what must be there. */
const swap = (from: string, to: string) => (text: string): string => {
  if (!text.includes(from)) throw new Error(`not in the example: ${from}`)
  return text.replaceAll(from, to)
}

const wrapped = 'lameduckMs: 0, quietMs: 2_000, logger: console'
const byDefault = swap(wrapped, 'logger: console')

const listenOnSocket = swap("server.listen(process.env.PORT ?? 3001, '127.0.0.1')", 'server.listen({ path: process.env.PORT, writableAll: true })')

/** As docs/proxies.md has it. */
function onSocket(text: string): string {
  const leave = `wrap(server, { ${wrapped} }).on('state', state => { if (state === 'draining') unlinkSync(process.env.PORT) })`
  return `import { unlinkSync } from 'node:fs'\n${listenOnSocket(swap(`wrap(server, { ${wrapped} })`, leave)(text))}`
}

export const variants: Record<ProxyName, Record<string, Variant>> = {
  nginx: {
    'lameduck (the example)': {},
    'lameduck, its defaults': {
      what: 'lameduckMs 2000: accepts on for 2 s, during which each answer closes its connection, so that nginx opens one for each request',
      app: byDefault,
    },
    'lameduck, upstream keepalive_timeout 60s': {
      what: "nginx's own default: idle connections are closed by the app, not by nginx",
      configuration: swap('keepalive_timeout 1s;', 'keepalive_timeout 60s;'),
    },
    'lameduck, few kept connections': {
      what: '`keepalive 4`: nginx opens connections all the time',
      configuration: swap('keepalive 128;', 'keepalive 4;'),
    },
    'lameduck, non_idempotent': {
      what: 'POSTs are tried again, too; without `timeout`',
      configuration: swap('error timeout http_502 http_503;', 'error http_502 http_503 non_idempotent;'),
    },
    'lameduck, unix sockets': {
      what: 'the instances listen on unix sockets, whose path goes before the listener does',
      app: onSocket,
      sockets: true,
    },
    'lameduck, max_fails=1 fail_timeout=10s': {
      what: "nginx's defaults for upstreams, restarts a second apart: both are taken out at a time",
      configuration: swap('max_fails=0', 'max_fails=1 fail_timeout=10s'),
    },
  },
  haproxy: {
    'lameduck (the example)': {},
    'lameduck, lameduckMs 0': {
      what: 'gone before the checks can tell',
      app: swap('lameduckMs: 2_000', 'lameduckMs: 0'),
    },
  },
}

/** With lameduck's supervisor in place of lone processes. */
export interface SupervisedVariant extends Variant {
  /** Two supervisors, stopped and started one after the other, in place of one that is reloaded. */
  whole?: boolean
}

/** The example's file with one `server` line in each group. */
const oneServer = (text: string): string => text.replaceAll(/^ *server .*127\.0\.0\.1:3002.*\n/gm, '')

/** And, as examples/haproxy/README.md has it, with more patience: where there is one server, late checks must not leave none. */
const onePatient = (text: string): string => oneServer(swap('fall 2', 'fall 20')(text))

const onePort: SupervisedVariant = { configuration: oneServer }
// The supervisor holds the socket: no worker may take its path away.
const oneSocket: SupervisedVariant = { configuration: oneServer, app: listenOnSocket, sockets: true }

export const supervised: Record<ProxyName, Record<string, SupervisedVariant>> = {
  nginx: {
    'reload': onePort,
    'reload, its defaults': { ...onePort, what: 'lameduckMs 2000, quietMs 100', app: byDefault },
    'reload, unix socket': oneSocket,
    'two supervisors, stopped and started': { whole: true },
  },
  haproxy: {
    'reload': { ...onePort, configuration: onePatient },
    'reload, unix socket': { ...oneSocket, configuration: onePatient },
    'reload, fall 2': { ...onePort, what: 'two late checks leave no server: what the machine has to do besides decides' },
    'two supervisors, stopped and started': { whole: true },
  },
}
