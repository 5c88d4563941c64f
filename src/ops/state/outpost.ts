import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Outpost } from '../part.ts'
import { VERSION } from '../version.ts'
import { Observer } from './observer.ts'

/** How often the endpoint hears of the main thread without asking: what it says of one that is blocked is as old as that, at most. */
const TELL_MS = 5_000

/** Name and version of the application, where there is a package.json. */
function application(): { name?: string; version?: string } {
  try {
    const { name, version } = JSON.parse(readFileSync(join(process.cwd(), 'package.json'), 'utf8')) as { name?: string; version?: string }
    return { ...(name !== undefined && { name }), ...(version !== undefined && { version }) }
  } catch {
    return {}
  }
}

function info(): Record<string, unknown> {
  const { pid, ppid, version, arch, platform } = process
  return {
    application: application(),
    lameduck: VERSION,
    node: version,
    v8: process.versions.v8,
    pid,
    ppid,
    arch,
    platform,
    hostname: hostname(),
    startedAt: new Date(Date.now() - process.uptime() * 1_000).toISOString(),
  }
}

interface DiagnosticReport {
  environmentVariables?: unknown
  libuv?: { type?: string }[]
  header?: Record<string, unknown>
  workers?: DiagnosticReport[]
}

interface Wanted {
  environment: boolean
  network: boolean
}

/** Takes out what tells secrets. Each worker thread has a report of its own in it. */
function cleaned(report: DiagnosticReport, wanted: Wanted): DiagnosticReport {
  if (!wanted.environment) {
    delete report.environmentVariables
    // Arguments are a place for secrets, too.
    delete report.header?.commandLine
  }
  if (!wanted.network) {
    delete report.header?.networkInterfaces
    const handles = (report.libuv ?? []).filter(({ type }) => type === 'tcp' || type === 'udp') as Record<string, unknown>[]
    for (const handle of handles) for (const end of ['localEndpoint', 'remoteEndpoint']) delete handle[end]
  }
  for (const worker of report.workers ?? []) cleaned(worker, wanted)
  return report
}

/** `process.report`, without what it tells of the machine's secrets: the environment, and addresses, unless asked for. */
function report(wanted: Wanted): DiagnosticReport {
  const reporter = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean }
  const before = reporter.excludeNetwork
  // It looks up the names of all peers otherwise, which blocks.
  reporter.excludeNetwork = !wanted.network
  try {
    const made = reporter.getReport() as DiagnosticReport | string
    return cleaned(typeof made === 'string' ? JSON.parse(made) as DiagnosticReport : made, wanted)
  } finally {
    if (before === undefined) delete reporter.excludeNetwork
    else reporter.excludeNetwork = before
  }
}

/** The main thread's side of what is asked about its state. */
export const stateOutpost: Outpost = ({ duck, link }) => {
  const observer = new Observer(duck)
  link.offer({
    state: () => observer.snapshot(),
    'state.reset': () => observer.reset(),
    info,
    report,
    readiness: () => duck?.readiness() ?? { ready: true, state: 'running', checks: {} },
  })
  const tell = () => link.tell('state', observer.snapshot())
  const timer = setInterval(tell, TELL_MS).unref()
  // In the next turn: the state that it enters has begun by then.
  const onState = () => void setImmediate(tell)
  duck?.on('state', onState)
  tell()
  return () => {
    clearInterval(timer)
    duck?.off('state', onState)
    observer.close()
  }
}
