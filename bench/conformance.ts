/**
 * npm run conformance                every library, over http, https and HTTP/2, on this version of Node
 *   --peer NAME (may be repeated)    only these libraries
 *   --node PATH (may be repeated)    on these versions of Node instead
 *   --over http|https|h2c|h2         only this one
 *   --jobs N                         so many at a time, 2 unless told otherwise
 *   --verbose                        what failed, in the words of its assertion
 *
 * What was measured goes into bench/results/conformance.json, beside what is there of other versions and libraries; the page
 * docs/conformance.md is written from that.
 */
import { execFileSync, fork } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Outcome } from '../test/_matrix-events.ts'
import { conformanceDoc, transports, type Conformance, type Scenario, type Transport } from './_conformance-doc.ts'
import { isPeer, peer, type PeerName } from './_peers.ts'

/** Not process.exit, which is no drain, and lameduck once, without its lame duck. */
const libraries: PeerName[] = [
  'lameduck', 'http-graceful-shutdown', 'http-terminator', 'http-shutdown', '503 flag + close', 'stoppable', 'terminus', 'server.close()',
]

/** After this a run is given up; the scenarios that it did not come to have `died`. */
const LIMIT_MS = 240_000

const root = fileURLToPath(new URL('..', import.meta.url))
const jsonFile = new URL('results/conformance.json', import.meta.url)
const docFile = new URL('../docs/conformance.md', import.meta.url)

interface Job {
  node: string
  library: PeerName
  over: Transport
}

// null, as JSON has no undefined.
type Rows = [name: string, row: number | null][]

interface Run extends Job {
  rows: Rows
  outcomes: Outcome[]
}

/** The suite in a process of its own. */
function run(job: Job): Promise<Run> {
  const reporter = ['--test-reporter=./test/_matrix-events.ts', '--test-reporter-destination=stdout']
  const child = fork('test/_matrix.ts', {
    cwd: root,
    execPath: job.node,
    execArgv: ['--import', 'tsx', ...reporter],
    env: { ...process.env, NODE_OPTIONS: '', LAMEDUCK_AUTOPSY: '1', LAMEDUCK_PEER: job.library, LAMEDUCK_OVER: job.over },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  let stderr = ''
  child.stderr?.on('data', chunk => (stderr += chunk))
  const result: Run = { ...job, rows: [], outcomes: [] }
  // What a failed scenario left open must not keep the process.
  const end = () => child.kill('SIGKILL')
  const timer = setTimeout(end, LIMIT_MS)
  child.on('message', (message: Outcome | { rows: Rows }) => {
    if ('rows' in message) result.rows = message.rows
    else result.outcomes.push(message)
    if (result.outcomes.length === result.rows.length) setTimeout(end, 1_000).unref()
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', () => {
      clearTimeout(timer)
      if (result.rows.length === 0) reject(new Error(`${job.library} over ${job.over} did not begin:\n${stderr}`))
      else resolve(result)
    })
  })
}

function tell({ library, over, rows, outcomes }: Run, seconds: number, isVerbose: boolean): void {
  const right = outcomes.filter(({ verdict }) => verdict === 'ok').length
  const asked = rows.length - outcomes.filter(({ verdict }) => verdict === '–').length
  console.log(`${library}, ${over}: ${right} of ${asked} right, in ${seconds.toFixed()} s`)
  if (!isVerbose) return
  for (const { name, verdict, message } of outcomes) {
    if (verdict !== 'ok' && verdict !== '–') console.log(`  ${verdict}: ${name}\n    ${message.replaceAll(/\s+/g, ' ').slice(0, 200)}`)
  }
}

/** Each job, a few at a time: most of the time they wait. */
async function runAll(jobs: Job[], atOnce: number, isVerbose: boolean): Promise<Run[]> {
  const left = [...jobs]
  const runs: Run[] = []
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let job = left.shift(); job; job = left.shift()) {
      const started = performance.now()
      const done = await run(job)
      tell(done, (performance.now() - started) / 1_000, isVerbose)
      runs.push(done)
    }
  }))
  return runs
}

function versionOf(library: PeerName): string {
  const { package: name } = peer(library)
  if (name === undefined) return ''
  const file = name === 'lameduck' ? '../package.json' : `../node_modules/${name}/package.json`
  return (JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')) as { version: string }).version
}

function load(): Conformance {
  if (existsSync(jsonFile)) return JSON.parse(readFileSync(jsonFile, 'utf8')) as Conformance
  return { bench: 'conformance', runs: {}, libraries: {}, scenarios: [] }
}

/** The scenarios as the suite has them now, with the results of before where there are no new ones. */
function merge(data: Conformance, runs: Run[], major: string): Conformance {
  const scenarios: Scenario[] = []
  for (const over of transports) {
    const old = data.scenarios.filter(scenario => scenario.over === over)
    const [some] = runs.filter(one => one.over === over)
    const rows: Rows = some?.rows ?? old.map(({ name, row }) => [name, row ?? null])
    for (const [name, row] of rows) {
      const results = structuredClone(old.find(scenario => scenario.name === name)?.results ?? {})
      for (const { library, outcomes } of runs.filter(one => one.over === over)) {
        const verdict = outcomes.find(outcome => outcome.name === name)?.verdict ?? 'died'
        results[library] = { ...results[library], [major]: verdict }
      }
      scenarios.push({ ...row !== null && { row }, over, name, results })
    }
  }
  return { ...data, scenarios, libraries: Object.fromEntries(libraries.map(name => [name, versionOf(name)])) }
}

/** One line for each scenario and library: a difference between two runs is to be readable. */
function json({ scenarios, ...rest }: Conformance): string {
  const lines = scenarios.map(({ results, ...scenario }) => {
    const cells = libraries.filter(name => results[name]).map(name => `    ${JSON.stringify(name)}: ${JSON.stringify(results[name])}`)
    return `${JSON.stringify(scenario).slice(0, -1)},"results":{\n${cells.join(',\n')}}}`
  })
  return `${JSON.stringify(rest, undefined, 2).slice(0, -2)},\n  "scenarios": [\n${lines.join(',\n')}]}\n`
}

function asLibrary(name: string): PeerName {
  if (isPeer(name) && libraries.includes(name)) return name
  throw new Error(`no library "${name}": ${libraries.join(', ')}`)
}

function asTransport(name: string): Transport {
  const found = transports.find(transport => transport === name)
  if (!found) throw new Error(`no transport "${name}": ${transports.join(', ')}`)
  return found
}

const { values } = parseArgs({
  options: {
    peer: { type: 'string', multiple: true, default: [] },
    node: { type: 'string', multiple: true, default: [process.execPath] },
    over: { type: 'string', multiple: true, default: [...transports] },
    jobs: { type: 'string', default: '2' },
    verbose: { type: 'boolean', default: false },
  },
})
const wanted = values.peer.length > 0 ? values.peer.map(asLibrary) : libraries
const overs = values.over.map(asTransport)

for (const node of values.node) {
  const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()
  const major = version.slice(1).split('.')[0] as string
  console.log(`Node ${version}`)
  const jobs = wanted.flatMap(library => overs.map((over): Job => ({ node, library, over })))
  const data = merge(load(), await runAll(jobs, Number(values.jobs), values.verbose), major)
  const [cpu] = cpus()
  data.runs[major] = { node: version, date: new Date().toISOString(), cpu: cpu?.model.trim() ?? 'unknown', cores: cpus().length }
  mkdirSync(new URL('.', docFile), { recursive: true })
  writeFileSync(jsonFile, json(data))
  writeFileSync(docFile, conformanceDoc(data))
}
