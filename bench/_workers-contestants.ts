/** Who reloads the workers of one app: lameduck, pm2, and what people write by hand. */
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Built } from '../test/_cluster-build.ts'
import { exampleApp } from './_proxy-examples.ts'
import { startPm2 } from './_proxy-pm2.ts'
import { startHost, type HostOptions, type Workers } from './_workers-host.ts'

export interface Task {
  /** What `lameduck` stands for. */
  built: Built
  workers: number
  /** How long a request takes. */
  handlerMs: number
  /** Note each request, and who serves. It costs time. Default true. */
  journal?: boolean
}

export interface Contestant {
  /** In words. */
  what?: string
  start(task: Task): Promise<Workers>
}

const app = fileURLToPath(new URL('_workers-app.mjs', import.meta.url))

/** How the app is stopped: see _workers-app.mjs. */
type Stop = 'recipe' | 'lameduck' | undefined

const core = ({ built }: Task) => pathToFileURL(join(built.folder, 'index.js')).href

function plan(task: Task, stop: Stop) {
  const { workers, handlerMs, journal = true } = task
  const env = { HANDLER_MS: String(handlerMs), ...stop && { STOP: stop }, ...stop === 'lameduck' && { LAMEDUCK: core(task) } }
  return { script: app, workers, journal, env }
}

const host = (program: HostOptions['program'], stop: Stop, settings: Record<string, unknown>) => (task: Task) =>
  startHost({ program, ...plan(task, stop), settings: { main: pathToFileURL(task.built.main).href, ...settings } })

const pm2 = (stop: Stop, settings: Record<string, unknown>) => (task: Task) => {
  const { workers, ...rest } = plan(task, stop)
  return startPm2({ ...rest, settings: { instances: workers, ...settings } })
}

/** The example of pm2, app and settings. */
const example = (edit?: (text: string) => string) => async (task: Task): Promise<Workers> => {
  const copy = exampleApp('pm2/app.mjs', core(task), edit)
  const workers = await startPm2({ script: copy.file, settings: { instances: task.workers } })
  return {
    ...workers,
    pid: workers.pid,
    async close() {
      await workers.close()
      copy[Symbol.dispose]()
    },
  }
}

/** Without the line for SIGINT: what `wrap(server)` alone does. */
const asItComes = (text: string) => text.replace("signals: ['SIGTERM'], ", '').replace(/^process\.once\('SIGINT'.*$/m, '')

const newcomer = { wait_ready: undefined, listen_timeout: undefined, kill_timeout: undefined, shutdown_with_message: undefined }
const recipe = { ...newcomer, wait_ready: true, listen_timeout: 10_000 }

export const contestants: Record<string, Contestant> = {
  'lameduck run': {
    what: 'its defaults, and `wrap(server)`',
    start: host('supervisor', 'lameduck', {}),
  },
  'lameduck run, no wrap': {
    what: 'an app that never heard of lameduck',
    start: host('supervisor', undefined, {}),
  },
  'cluster, by hand': {
    what: "forks a new worker, at its `listening` calls the old one's `disconnect()`, and kills it when it is still there after 5 s",
    start: host('primary', undefined, { goodbye: 'disconnect' }),
  },
  'cluster, by hand, wrap(server)': {
    what: 'the same primary',
    start: host('primary', 'lameduck', { goodbye: 'disconnect' }),
  },
  'cluster, by hand, wrap(server), SIGTERM': {
    what: 'the same with SIGTERM in place of `disconnect()`',
    start: host('primary', 'lameduck', { goodbye: 'SIGTERM' }),
  },
  'pm2, as newcomers do': {
    what: "`exec_mode: 'cluster'` and nothing else, an app that does not listen to signals",
    start: pm2(undefined, newcomer),
  },
  "pm2's recipe": {
    what: '`server.close()` on SIGINT, `wait_ready`, `listen_timeout`; `kill_timeout` as it is by default, 1.6 s',
    start: pm2('recipe', recipe),
  },
  "pm2's recipe, kill_timeout 8 s": {
    start: pm2('recipe', { ...recipe, kill_timeout: 8_000 }),
  },
  'pm2, lameduck (the example)': {
    start: example(),
  },
  'pm2, lameduck, SIGINT as it comes': {
    what: 'without the lame duck',
    start: example(asItComes),
  },
}
