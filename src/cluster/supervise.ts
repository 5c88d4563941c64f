import { nodeSystem } from './node-system.ts'
import { settle, type SuperviseOptions } from './options.ts'
import { listenToSignals } from './signals.ts'
import { Supervisor, type StopReport } from './supervisor.ts'

// The lifecycle layer of a supervising process.
// oxlint-disable-next-line unicorn/no-process-exit
const exit = (code: number) => process.exit(code)

/**
 * Runs a script in several processes behind one listener (`node:cluster`), and keeps them running: replaces what dies, what is
 * stuck and what has grown too large, and reloads them without losing a request.
 *
 * The script needs `wrap(server)`, and nothing else. One that has no lameduck in it works, too, with less: it is ready as soon as
 * it listens, it is told to go by SIGTERM, and requests in flight are then its own business. In a script that uses `node:cluster`
 * itself `cluster.isPrimary` is false.
 *
 * @param options See {@link SuperviseOptions}; all durations in milliseconds.
 * @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_OPTION`; `ERR_LAMEDUCK_CLUSTER_SCRIPT` and `ERR_LAMEDUCK_CLUSTER_ENV` for a script
 *   or env file that is not there. What fails later, `ready` and `stopped` tell.
 */
export function supervise(options: SuperviseOptions): Supervisor {
  const settings = settle(options)
  const supervisor = new Supervisor(settings, nodeSystem)
  if (!settings.signals) return supervisor
  const end = ({ code }: StopReport) => {
    if (settings.exit) exit(code)
  }
  const release = listenToSignals({
    stop: signal => void supervisor.stop(signal),
    force: (signal, code) => void supervisor.kill(signal, code),
    reload: () => void supervisor.reload().catch(() => {}),
  })
  void supervisor.stopped.then(async report => {
    await supervisor.closed
    release()
    end(report)
  })
  return supervisor
}
