/** Starts nginx or HAProxy with the example's own configuration, on other ports. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, chmodSync, constants, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts } from './_ports.ts'

export type ProxyName = 'nginx' | 'haproxy'

export interface Proxy {
  name: ProxyName
  /** Of its frontends, in the order of the file: 8080, 8081, … */
  ports: number[]
  /** Where its files are: the configuration and, of HAProxy, the socket. */
  folder: string
  output(): string
  close(): Promise<void>
}

export interface ProxyOptions {
  /** The ports of the instances (or paths of unix sockets): what the file calls 3001 and 3002. */
  upstreams: readonly string[]
  /** A variant of the file. It must change something. */
  edit?: ((text: string) => string) | undefined
}

const programs = {
  nginx: { file: 'nginx.conf', folders: ['/usr/sbin', '/usr/local/sbin', '/usr/bin', '/usr/local/bin'], frontends: 1 },
  haproxy: { file: 'haproxy.cfg', folders: ['/usr/sbin', '/usr/local/sbin', '/usr/bin', '/usr/local/bin'], frontends: 2 },
} as const

/** Its binary, or undefined where it is not installed. */
export function findProxy(name: ProxyName): string | undefined {
  return programs[name].folders.map((folder) => join(folder, name)).find((file) => {
    try {
      accessSync(file, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Resolves when it accepts connections. A port that another process was faster to take is no reason to fail. */
export async function startProxy(name: ProxyName, options: ProxyOptions): Promise<Proxy> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await launch(name, options)
    } catch (error) {
      if (attempt === 3 || !/address already in use|cannot bind/i.test(String(error))) throw error
    }
  }
}

async function launch(name: ProxyName, { upstreams, edit }: ProxyOptions): Promise<Proxy> {
  const binary = findProxy(name)
  if (!binary) throw new Error(`${name} is not installed`)
  const { file, frontends } = programs[name]
  const folder = mkdtempSync(join(tmpdir(), `lameduck-${name}-`))
  chmodSync(folder, 0o755) // nginx's workers are nobody
  mkdirSync(join(folder, 'temp'))
  const ports = await freePorts(frontends)
  writeFileSync(join(folder, file), configuration(name, ports, upstreams, edit))

  const args = name === 'nginx' ? ['-p', folder, '-c', join(folder, file), '-g', 'daemon off;'] : ['-f', file]
  const child = spawn(binary, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { output += chunk })
  const kill = () => child.kill('SIGKILL')
  process.on('exit', kill)
  const closed = once(child, 'close').then(() => { process.off('exit', kill) })
  const close = async () => {
    child.kill(name === 'nginx' ? 'SIGTERM' : 'SIGUSR1')
    const timer = setTimeout(() => child.kill('SIGTERM'), 500)
    const last = setTimeout(kill, 5_000)
    await closed
    clearTimeout(timer)
    clearTimeout(last)
    rmSync(folder, { recursive: true, force: true })
  }
  for (const port of ports) {
    while (!await accepts(port)) {
      if (child.exitCode !== null || child.signalCode !== null) {
        await close()
        throw new Error(`${name} ended (${child.signalCode ?? child.exitCode}): ${output}`)
      }
      await sleep(20)
    }
  }
  return { name, ports, folder, output: () => output, close }
}

/** The example's file with these ports in place of its own. That is all that is changed. */
function configuration(name: ProxyName, frontends: number[], upstreams: readonly string[], edit: ProxyOptions['edit']): string {
  const text = readFileSync(new URL(`../examples/${name}/${programs[name].file}`, import.meta.url), 'utf8')
  const unix = name === 'nginx' ? 'unix:' : 'unix@'
  const edited = edit ? edit(text) : text
  if (edit && edited === text) throw new Error(`a variant of ${name} that changes nothing`)
  const own = new Map([
    ...frontends.map((port, index) => [8080 + index, `127.0.0.1:${port}`] as const),
    ...upstreams.map((address, index) => [3001 + index, address.startsWith('/') ? `${unix}${address}` : `127.0.0.1:${address}`] as const),
  ])
  return edited.replaceAll(/127\.0\.0\.1:(\d+)/g, (whole, port: string) => {
    const replacement = own.get(Number(port))
    if (replacement === undefined) throw new Error(`${name}: no port for ${whole}`)
    return replacement
  })
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
