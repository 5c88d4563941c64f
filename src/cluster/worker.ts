// The worker's side, loaded before the script by an option of Node (see `preload.ts`); the script needs `wrap(server)`, or not even that.
// Those options are handed down to threads and to children that the script forks: there this does nothing.
import cluster from 'node:cluster'
import { isMainThread } from 'node:worker_threads'
import { SETTINGS, type WorkerSettings } from './messages.ts'
import { WorkerSide } from './worker-side.ts'

const settings = process.env[SETTINGS]
if (cluster.isWorker && isMainThread && settings !== undefined) {
  delete process.env[SETTINGS]
  void new WorkerSide(JSON.parse(settings) as WorkerSettings)
}
