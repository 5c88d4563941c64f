/**
 * npm run bench:pm2                 `pm2 reload` under load, no proxy: with what its documentation recommends, and with lameduck
 *   --reloads N                     default 4
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { buildCore } from './_build.ts'
import { exampleApp } from './_proxy-examples.ts'
import { startPm2, type Pm2Options } from './_proxy-pm2.ts'
import { rollingRestart, type Rolling } from './_proxy-rolling.ts'
import { median } from './_stats.ts'
import { fixed, progress, publish } from './_table.ts'

const { values } = parseArgs({ options: { reloads: { type: 'string', default: '4' } } })
const reloads = Number(values.reloads)

using _core = await buildCore()
const core = process.env['BENCH_CORE'] ?? ''
using example = exampleApp('pm2/app.mjs', core)
// Without the line for SIGINT: what `wrap(server)` alone does.
using plain = exampleApp('pm2/app.mjs', core, (text) => text.replace("signals: ['SIGTERM'], ", '').replace(/^process\.once\('SIGINT'.*$/m, ''))
const recipe = fileURLToPath(new URL('_proxy-pm2-recipe.mjs', import.meta.url))

const setups: Record<string, Pm2Options> = {
  "pm2's recipe, kill_timeout 1.6 s (its default)": { script: recipe, settings: { kill_timeout: 1_600 } },
  "pm2's recipe, kill_timeout 8 s": { script: recipe, settings: { kill_timeout: 8_000 } },
  'lameduck (the example)': { script: example.file },
  'lameduck, SIGINT as it comes': { script: plain.file },
}

const rows: (Rolling & { name: string })[] = []
for (const [name, options] of Object.entries(setups)) {
  progress(name)
  const pm2 = await startPm2(options)
  try {
    rows.push({ name, ...await rollingRestart({ port: pm2.port, upstream: pm2, restarts: reloads }) })
  } finally {
    await pm2.close()
  }
}
progress('')

const { version } = JSON.parse(readFileSync(new URL('../node_modules/pm2/package.json', import.meta.url), 'utf8')) as { version: string }
publish({
  bench: 'pm2',
  title: `pm2 ${version}, \`pm2 reload\` × ${reloads} of two processes in cluster mode, 20 keep-alive clients each for GET and POST`,
  settings: { pm2: version, reloads, clients: 40, thinkMs: 20, handlerMs: 5 },
  columns: [
    { title: '', cell: ({ name }) => name },
    { title: 'POSTs failed', cell: ({ post }) => post.failed },
    { title: 'of them executed', cell: ({ post }) => post.executed },
    { title: 'GETs failed', cell: ({ get }) => get.failed },
    { title: 'of POSTs', cell: ({ post }) => post.sent },
    { title: 'reload, median ms', cell: ({ restarts }) => fixed(median(restarts.map(({ drainMs }) => drainMs))) },
    { title: 'killed by pm2', cell: ({ restarts }) => restarts.some(({ killed }) => killed) ? 'yes' : 'no' },
  ],
  rows,
})
