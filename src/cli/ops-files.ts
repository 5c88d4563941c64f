import type { Command } from 'commander'
import { act } from './act.ts'
import { listIn, type Artifact, type Job } from './answers.ts'
import { details } from './details.ts'
import type { Desk } from './desk.ts'
import { checkOutput } from './download.ts'
import { Failure } from './failure.ts'
import { bytes, duration, percent } from './format.ts'
import type { Io } from './io.ts'
import { follow } from './job.ts'
import { deliver } from './ops-heap.ts'

function jobsText(desk: Desk, jobs: Job[]): string {
  if (jobs.length === 0) return 'no jobs'
  const columns = ['id', 'kind', 'state', 'phase', 'progress', 'by', 'started', 'took'].map(title => ({ title, right: title === 'progress' || title === 'took' }))
  return desk.table(columns, jobs.map(({ id, kind, state, phase, progress, by, startedAt, endedAt }) => [
    id, kind, state, phase, progress === undefined ? '-' : percent(progress), by, startedAt,
    duration(Math.max(0, (endedAt === undefined ? Date.now() : Date.parse(endedAt)) - Date.parse(startedAt))),
  ]))
}

function artifactsText(desk: Desk, artifacts: Artifact[]): string {
  if (artifacts.length === 0) return 'no files'
  const columns = ['name', 'kind', 'size', 'secret', 'by', 'created'].map(title => ({ title, right: title === 'size' }))
  return desk.table(columns, artifacts.map(({ name, kind, bytes: size, secret, by, createdAt }) => [name, kind, bytes(size), secret ? 'yes' : 'no', by, createdAt]))
}

function addJobs(ops: Command, io: Io): void {
  const jobs = ops.command('jobs').description('long work: what runs, what has ended')
    .action(act(io, async desk => {
      const answer = await (await desk.client()).get('/jobs')
      await desk.show(answer, () => jobsText(desk, listIn(answer, 'jobs')))
    }))
  jobs.command('get <id>').description('one of them').action(act(io, async (desk, _, id = '') => {
    const job = await (await desk.client()).get(`/jobs/${encodeURIComponent(id)}`)
    await desk.show(job, () => details(job))
  }))
  jobs.command('wait <id>').description('wait until it has ended').action(act(io, async (desk, _, id = '') => {
    const client = await desk.client()
    const job = await follow(desk, client, await client.get<Job>(`/jobs/${encodeURIComponent(id)}`))
    await desk.show(job, () => details(job))
  }))
  jobs.command('cancel <id>').description('call it off').action(act(io, async (desk, _, id = '') => {
    const answer = await (await desk.client()).json('DELETE', `/jobs/${encodeURIComponent(id)}`)
    await desk.show(answer ?? { id }, `job ${id} is cancelled`)
  }))
}

/** Jobs, and the files that they made. */
export function addFiles(ops: Command, io: Io): void {
  addJobs(ops, io)
  const artifacts = ops.command('artifacts').description('files that were made there: list, fetch, delete')
    .action(act(io, async desk => {
      const answer = await (await desk.client()).get('/artifacts')
      await desk.show(answer, () => artifactsText(desk, listIn(answer, 'artifacts')))
    }))
  artifacts.command('get <name>').description('fetch one, check it, unpack it')
    .option('-o, --output <file>', 'where to; `.gz` at its end keeps it packed, - is stdout (default: its own name, here)')
    .action(act<{ output?: string }>(io, async (desk, { output }, name = '') => {
      checkOutput(output, io.cwd())
      const all = listIn<Artifact>(await (await desk.client()).get('/artifacts'), 'artifacts')
      const artifact = all.find(one => one.name === name)
      if (!artifact) throw new Failure('ERR_LAMEDUCK_CLI_ARTIFACT', `there is no file ${name}`, { hint: 'see `lameduck ops artifacts`' })
      await deliver(desk, artifact, output)
    }))
  artifacts.command('rm <name>').description('delete one').action(act(io, async (desk, _, name = '') => {
    const answer = await (await desk.client()).json('DELETE', `/artifacts/${encodeURIComponent(name)}`)
    await desk.show(answer ?? { name }, `${name} is deleted`)
  }))
}
