import type { Command } from 'commander'
import { act, number } from './act.ts'
import type { Artifact, Job } from './answers.ts'
import { details } from './details.ts'
import type { Ask } from './client.ts'
import type { Desk } from './desk.ts'
import { checkOutput, download } from './download.ts'
import { bytes, duration } from './format.ts'
import type { Io } from './io.ts'
import { artifactOf, follow } from './job.ts'

interface Output {
  output?: string
}

/** What a snapshot needs, and what is there. Bytes. */
interface Estimate {
  usedHeap: number
  factor: number
  need: number
  available: number
  fits: boolean
  pauseMs?: number
}

interface SnapshotOptions extends Output {
  afterGc?: boolean
  isolate?: boolean
  raw?: boolean
  force?: boolean
  recycle?: boolean
}

interface ProfileOptions extends Output {
  seconds?: number
  pprof?: boolean
}

/** What to do with a file, by its kind. */
const OPEN: Record<string, string> = {
  'heap-snapshot': 'open it: Chrome, DevTools, Memory, Load profile (or `npx memlab`)',
  'heap-profile': 'open it: Chrome, DevTools, Memory, Load profile',
  'cpu-profile': 'open it: Chrome, DevTools, Performance, Load profile (or VS Code)',
}

const PPROF = 'open it: go tool pprof -http=: FILE, or https://pprof.me'

/** Fetches what a job has made, and says what can be done with it. The path is the only line on stdout. */
export async function deliver(desk: Desk, artifact: Artifact, output: string | undefined): Promise<void> {
  const file = await download(desk, await desk.client(), artifact, output)
  if (file === '-') return
  await desk.show({ file, artifact }, file)
  const pprof = /\.(?:pb|pprof)\b/.test(artifact.name)
  await desk.remark(`${bytes(artifact.bytes)} fetched, SHA-256 right${artifact.secret ? '; it holds live strings of the process: keep it private' : ''}`)
  await desk.remark(file.endsWith('.gz') && !pprof ? `unpack it first: gunzip ${file}` : (pprof ? PPROF : OPEN[artifact.kind] ?? ''))
}

type Params = NonNullable<Ask['query']>

async function run(desk: Desk, path: string, query: Params, output: string | undefined): Promise<void> {
  checkOutput(output, desk.io.cwd())
  const client = await desk.client()
  const started = await client.json<Job>('POST', path, { query })
  const ended = await follow(desk, client, started)
  await deliver(desk, artifactOf(ended), output)
}

const INTO = ['-o, --output <file>', 'where to; `.gz` at its end keeps it packed, - is stdout (default: its own name, here)'] as const

function addSnapshot(heap: Command, io: Io): void {
  heap.command('snapshot')
    .description('take a heap snapshot, fetch it, check it, unpack it')
    .option('--isolate', 'out of rotation first, and back afterwards: no user waits for the pause')
    .option('--after-gc', 'right after the next major GC, instead of now')
    .option('--raw', 'with live strings in it, secrets included (scope secrets); otherwise they are blanked')
    .option('--force', 'even if memory may not suffice, or nobody else is ready')
    .option('--recycle', 'drain and exit afterwards instead of going back into rotation')
    .option(...INTO)
    .addHelpText('after', `
The process stands still while V8 writes the snapshot: seconds to minutes, see
\`lameduck ops heap estimate\`. With --isolate that costs no user anything.

Examples:
  lameduck ops heap snapshot --isolate
  lameduck ops heap snapshot --isolate --after-gc -o before.heapsnapshot
`)
    .action(act<SnapshotOptions>(io, async (desk, { afterGc, isolate, raw, force, recycle, output }) => {
      await run(desk, '/heap/snapshots', {
        ...(afterGc && { when: 'after-gc' }),
        ...(isolate && { isolate }),
        ...(raw && { redact: false }),
        ...(force && { force }),
        ...(recycle && { recycle }),
      }, output)
    }))
}

/** The heap: what a snapshot would cost, snapshots, sampling profiles; and the CPU. */
export function addHeap(ops: Command, io: Io): void {
  const heap = ops.command('heap').description('snapshots and profiles of the heap')
  heap.command('estimate').description('what a snapshot would need, and whether that is there').action(act(io, async desk => {
    const estimate = await (await desk.client()).get<Estimate>('/heap/estimate')
    const { need, available, usedHeap, factor, fits, pauseMs } = estimate
    await desk.show(estimate, () => `${fits
      ? desk.colour.green('a snapshot fits')
      : desk.colour.red('a snapshot does not fit')}: ${bytes(usedHeap)} of used heap x ${factor} = ${bytes(need)} needed, ${bytes(available)} available${
        pauseMs === undefined ? '' : `; the process would stand still for about ${duration(pauseMs)}`}\n${details(estimate)}`)
    if (!fits) await desk.remark('`lameduck ops heap profile` needs next to nothing; `heap snapshot --force` takes the snapshot anyway')
  }))
  addSnapshot(heap, io)
  const seconds = ['--seconds <n>', 'for how long', number('--seconds', { least: 1, most: 3_600, whole: true })] as const
  heap.command('profile')
    .description('a sampling profile of what is allocated and kept (0.6 to 4 % of throughput)')
    .option(...seconds)
    .option('--pprof', "in pprof's format instead of V8's")
    .option(...INTO)
    .action(act<ProfileOptions>(io, (desk, { seconds, pprof, output }) => run(desk, '/heap/profile', profile(seconds, pprof), output)))
  ops.command('cpu')
    .description('a CPU profile; also of a main thread that hangs')
    .option(...seconds)
    .option('--pprof', "in pprof's format instead of V8's")
    .option(...INTO)
    .addHelpText('after', '\nExamples:\n  lameduck ops cpu --seconds 10\n  lameduck ops cpu --seconds 30 --pprof -o cpu.pb.gz\n')
    .action(act<ProfileOptions>(io, (desk, { seconds, pprof, output }) => run(desk, '/cpu/profile', profile(seconds, pprof), output)))
}

function profile(seconds: number | undefined, pprof: boolean | undefined): Params {
  return { ...(seconds !== undefined && { seconds }), ...(pprof && { format: 'pprof' }) }
}
