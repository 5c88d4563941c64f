import { setTimeout as sleep } from 'node:timers/promises'
import type { Artifact, Job } from './answers.ts'
import type { Client } from './client.ts'
import type { Desk } from './desk.ts'
import { EXIT, Failure } from './failure.ts'
import { bar, duration, oneLine } from './format.ts'
import { live, onInterrupt, type Live } from './live.ts'

/** Between two looks at a job: short at first, for what is done at once. */
const FIRST_LOOK_MS = 50
const LAST_LOOK_MS = 500

/** So many looks in a row may fail: an endpoint that runs on a blocked main thread does not answer, and comes back. */
const MOST_MISSES = 120

/** What an end of a job means to us. */
function failureOf({ id, state, problem = {} }: Job): Failure {
  const { code, detail } = problem
  if (state === 'cancelled') return new Failure('ERR_LAMEDUCK_CLI_CANCELLED', `job ${id} was cancelled`, { exit: EXIT.failed })
  const hint = code?.endsWith('_HEADROOM') ? '`lameduck ops heap profile` needs less; --force takes the snapshot anyway' : undefined
  return new Failure(code ?? 'ERR_LAMEDUCK_CLI_JOB', `job ${id} failed: ${oneLine(detail ?? 'without a reason')}`, { hint })
}

async function look(client: Client, id: string, misses: { count: number }): Promise<Job | undefined> {
  try {
    const job = await client.get<Job>(`/jobs/${encodeURIComponent(id)}`)
    misses.count = 0
    return job
  } catch (error) {
    const passing = error instanceof Failure && (error.exit === EXIT.unreachable || error.code.endsWith('_THROTTLED'))
    if (!passing || ++misses.count > MOST_MISSES || error.message.includes('ENOENT')) throw error
    return undefined
  }
}

async function paint(view: Live, { id, kind, phase, progress, startedAt }: Job): Promise<void> {
  const about = `${kind} ${id}: ${phase}`
  const age = duration(Math.max(0, Date.now() - Date.parse(startedAt)))
  await view.paint(oneLine(progress === undefined ? `${about} (${age})` : `${bar(progress)}  ${about} (${age})`), about)
}

/** Calls it off, and says what became of it. */
async function cancel(desk: Desk, client: Client, id: string): Promise<never> {
  try {
    await client.json('DELETE', `/jobs/${encodeURIComponent(id)}`, { timeoutMs: 5_000 })
  } catch (error) {
    await desk.remark(`lameduck: job ${id} could not be cancelled: ${(error as Error).message}`)
    throw new Failure('ERR_LAMEDUCK_CLI_INTERRUPTED', `interrupted; job ${id} may go on`, { exit: EXIT.interrupted, hint: 'see `lameduck ops jobs`' })
  }
  throw new Failure('ERR_LAMEDUCK_CLI_INTERRUPTED', `interrupted: job ${id} is cancelled`, { exit: EXIT.interrupted, hint: 'a pause that has begun ends first' })
}

/**
 * Waits until a job has ended, showing what it does. Ctrl-C cancels it over there.
 *
 * @throws {Failure} When it failed or was cancelled; 130 after Ctrl-C.
 */
export async function follow(desk: Desk, client: Client, started: Job): Promise<Job> {
  const view = await live(desk.io.stderr)
  const interrupt = new AbortController()
  const stop = onInterrupt(desk.io, () => interrupt.abort())
  const misses = { count: 0 }
  let [job, waitMs] = [started, FIRST_LOOK_MS]
  try {
    await paint(view, job)
    while (job.state === 'running') {
      await sleep(waitMs, undefined, { signal: interrupt.signal }).catch(() => {})
      waitMs = Math.min(LAST_LOOK_MS, waitMs * 1.5)
      if (interrupt.signal.aborted) {
        view.end()
        return await cancel(desk, client, job.id)
      }
      job = await look(client, job.id, misses) ?? job
      await paint(view, job)
    }
  } finally {
    view.end()
    stop()
  }
  if (job.state !== 'done') throw failureOf(job)
  return job
}

/** The file that a job has made. */
export function artifactOf({ id, result }: Job): Artifact {
  const { artifact = result } = (result ?? {}) as { artifact?: unknown }
  if (typeof (artifact as Artifact | undefined)?.name === 'string') return artifact as Artifact
  throw new Failure('ERR_LAMEDUCK_CLI_JOB', `job ${id} made no file`)
}
