/** What `npm run conformance` found, and the page that is written from it. */
import { ROWS } from '../test/_matrix-rows.ts'

export const transports = ['http', 'https', 'h2c', 'h2'] as const
export type Transport = typeof transports[number]

/** Verdicts by library, and by major version of Node. */
export type Results = Record<string, Record<string, string>>

export interface Scenario {
  /** Its number in ROWS. */
  row?: number
  over: Transport
  name: string
  results: Results
}

export interface Conformance {
  bench: 'conformance'
  /** By major version of Node. */
  runs: Record<string, { node: string, date: string, cpu: string, cores: number }>
  /** Version by library, '' for what is no package. */
  libraries: Record<string, string>
  scenarios: Scenario[]
}

const OK = 'ok'
const NOT_ASKED = '–'

/** How bad a verdict is. What is not named here lost or broke something. */
const kinds: [string, (verdict: string) => boolean][] = [
  ['right', verdict => verdict === OK],
  ['impolite', verdict => /^(no close|no GOAWAY|early|\d{3})$/.test(verdict)],
  ['slow', verdict => /^(late|hang|stays open|listens on)$/.test(verdict)],
  ['broken', () => true],
]

const legend: Record<string, string> = {
  '✓': 'as it should be',
  '–': 'the library has nothing to ask for it: a lame duck, probes, a drain signal, a choice about late requests',
  'lost': 'a request that was sent while the connection was open got no answer; it was not executed',
  'RST': 'the same, by a reset: for all that the client knows, it may have been executed',
  'ghost': 'a request was executed and never answered',
  'cut': 'part of an answer arrived, or a tunnel ended in the middle',
  'refused': 'a connection was refused that should have been served',
  'early close': 'an answer said `close` although answers behind it were still to come',
  'hang': 'no answer, or no end of the drain, within the limit that the library was given',
  'listens on': 'new connections were accepted until that limit',
  'late': 'it ended, but at that limit and not when it could have',
  'stays open': 'the connection was kept after its last answer, until some timeout',
  'no GOAWAY': 'an HTTP/2 session ended without one: the client cannot tell what may be tried again',
  'no close': 'answered, and the connection was closed behind it, but no `Connection: close` had said so: the next request may cross the FIN',
  'early': 'half a request head was cut off at once: no time to complete it',
  '101, 503 …': 'another status than was asked for',
  'twice': 'a request was executed twice',
  'wrong': 'something else: `npm run conformance -- --verbose` shows it',
  'crash': 'an uncaught exception',
  'died': 'the process ended, or had to be ended, before this scenario',
}

const table = (head: string[], rows: (string | number)[][]) =>
  [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |`).join('\n')

/** `20, 22–26`: neighbours in the list of all versions are joined. */
function span(some: string[], all: string[]): string {
  const parts: string[] = []
  for (let i = 0; i < all.length; i++) {
    if (!some.includes(all[i] as string)) continue
    const from = i
    while (i + 1 < all.length && some.includes(all[i + 1] as string)) i++
    parts.push(from === i ? String(all[i]) : `${all[from]}–${all[i]}`)
  }
  return parts.join(', ')
}

/** One verdict if all versions of Node agree, otherwise each with its versions. */
function cell(verdicts: Record<string, string> = {}, nodes: string[]): string {
  const byVerdict = new Map<string, string[]>()
  for (const [node, verdict] of Object.entries(verdicts)) byVerdict.set(verdict, [...byVerdict.get(verdict) ?? [], node])
  const have = nodes.filter(node => verdicts[node] !== undefined)
  const shown = [...byVerdict].map(([verdict, some]) => {
    const mark = verdict === OK ? '✓' : verdict
    return byVerdict.size === 1 && have.length === nodes.length ? mark : `${mark} (${span(some, nodes)})`
  })
  return shown.join(', ')
}

/** Somebody could be asked for it. */
const isAsked = ({ results }: Scenario) => Object.values(results).some(verdicts => Object.values(verdicts).some(verdict => verdict !== NOT_ASKED))

/** The verdicts of one library on one version of Node, by scenario of the list: one that has ten variants is not to count ten times. */
function verdictsOf({ scenarios }: Conformance, library: string, node: string): string[][] {
  const byRow = new Map<number | string, string[]>()
  for (const { row, over, name, results } of scenarios) {
    const verdict = results[library]?.[node]
    if (verdict === undefined || verdict === NOT_ASKED) continue
    const key = `${over} ${row ?? name}`
    byRow.set(key, [...byRow.get(key) ?? [], verdict])
  }
  return [...byRow.values()]
}

/** How many of the scenarios that a library could be asked for it got right. */
function summary(data: Conformance, libraries: string[], nodes: string[]): string {
  const rows = libraries.map(library => {
    const all = nodes.map(node => verdictsOf(data, library, node))
    const perNode = all.map(rows => {
      if (rows.length === 0) return ''
      return `${rows.filter(verdicts => verdicts.every(verdict => verdict === OK)).length} of ${rows.length}`
    })
    const every = all.flat()
    const shares = kinds.map(() => 0)
    for (const verdicts of every) {
      for (const verdict of verdicts) shares[kinds.findIndex(([, is]) => is(verdict))]! += 1 / verdicts.length / every.length
    }
    return [`${library} ${data.libraries[library] ?? ''}`.trim(), ...perNode, ...shares.map(share => `${Math.round(share * 1_000) / 10} %`)]
  })
  return table(['', ...nodes.map(node => `Node ${node}`), ...kinds.map(([name]) => name)], rows)
}

function matrix(data: Conformance, over: Transport, libraries: string[], nodes: string[]): string {
  const scenarios = data.scenarios.filter(scenario => scenario.over === over && isAsked(scenario))
  const numbers = [...new Set(scenarios.map(({ row }) => row))].sort((a, b) => (a ?? Infinity) - (b ?? Infinity))
  const rows = numbers.flatMap(number => {
    const title = number === undefined ? '**not in the list**' : `**${number}. ${ROWS[number]?.title}**`
    const some = scenarios.filter(({ row }) => row === number)
    return [
      [title, ...libraries.map(() => '')],
      ...some.map(({ name, results }) => [name.replaceAll('|', '\\|'), ...libraries.map(library => cell(results[library], nodes))]),
    ]
  })
  return table([over, ...libraries], rows)
}

/** docs/conformance.md. */
export function conformanceDoc(data: Conformance): string {
  const nodes = Object.keys(data.runs).sort((a, b) => Number(a) - Number(b))
  const libraries = Object.keys(data.libraries)
  const covered = new Set(data.scenarios.filter(isAsked).map(({ row }) => row))
  const elsewhere = Object.entries(ROWS).filter(([number]) => !covered.has(Number(number)))
  const runs = nodes.map(node => {
    const { node: version, date, cpu, cores } = data.runs[node] as Conformance['runs'][string]
    return `- Node ${version}, ${cores} cores (${cpu}), ${date.slice(0, 10)}`
  })
  return `# Conformance

<!-- Written by \`npm run conformance\` from bench/results/conformance.json. A test fails when this file says something else. -->

What the client of a draining server sees: lameduck's own suite (\`test/_suite-*.ts\`), run against lameduck and against every
library that does the same work. Each scenario is one run of a real server and real sockets on the loopback. Where a race decides, a
library that got it right here may get it wrong the next time, and the other way round: the [README](../README.md#measured) counts
such races in the thousands.

- Every library gets the same limit for its drain: the scenario's deadline, 5 s unless it says otherwise, as \`grace\`, \`timeout\` or
  \`gracefulTerminationTimeout\`. http-shutdown, "503 flag + close" and \`server.close()\` have no such option. All other settings are those of
  their documentation. lameduck runs without a lame duck (\`lameduckMs: 0\`), since the others have none.
- terminus and http-graceful-shutdown end the process when they are done. Here they are told not to (\`forceExit: false\`; an \`onShutdown\`
  that never returns), so that what they do until then is seen.
- A scenario fails at its first assertion that does not hold. The word says which kind that was; what came after it was not looked at.
- The suite was written for lameduck. Some of what it asks for is courtesy that no other library promises: "impolite" below. Where a
  library has nothing to ask for, it is not counted.
- Scenarios 20 to 22 send their request as the drain starts, as 1 does. A library that loses it there loses it here, and its framing is
  not looked at.

${runs.join('\n')}

## Right, of those that could be asked

Over each of the four, by scenario of the list: one with several variants is right when all of them are. The percentages are over all
versions of Node, and each variant has its share in its scenario's. Slow: late, hang, stays open, listens on. Impolite: no close, no GOAWAY, early, another status.
Broken: the rest.

${summary(data, libraries, nodes)}

## The words

${table(['', ''], Object.entries(legend).map(([word, text]) => [word, text]))}

A cell with one word is the same on every version of Node; otherwise the versions stand behind it.

## Over http

${matrix(data, 'http', libraries, nodes)}

## Over https

${matrix(data, 'https', libraries, nodes)}

## Over HTTP/2 without TLS (h2c)

${matrix(data, 'h2c', libraries, nodes)}

## Over HTTP/2 with TLS (h2)

${matrix(data, 'h2', libraries, nodes)}

## In the list, and no row here

${table(['', 'scenario', 'why'], elsewhere.map(([number, { title, elsewhere: why = '' }]) => [number, title, why]))}

\`npm run conformance\` runs it all for the Node version that it runs on (\`-- --node PATH\` for others, \`-- --peer NAME\` for one library, \`-- --over http\`).
`
}
