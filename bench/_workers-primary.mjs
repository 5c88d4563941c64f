// A primary as written by hand, after the many articles: a new worker for each old one, which is told to go as soon as the new one listens,
// and is killed when it has not gone after a while.
import cluster from 'node:cluster'
import { once } from 'node:events'

const KILL_MS = 5_000
const { script, workers, execArgv, goodbye } = JSON.parse(process.env.HOST)
cluster.setupPrimary({ exec: script, execArgv })
let current = []

async function start() {
  const worker = cluster.fork()
  await once(worker, 'listening')
  return worker
}

/** @returns Whether it had to be killed. */
async function retire(worker) {
  let killed = false
  const gone = once(worker, 'exit')
  if (goodbye === 'disconnect') worker.disconnect()
  else worker.process.kill(goodbye)
  // Not worker.kill(): that waits until it has disconnected, which is what it does not do.
  const timer = setTimeout(() => { killed = worker.process.kill('SIGKILL') }, KILL_MS)
  await gone
  clearTimeout(timer)
  return killed
}

for (let i = 0; i < workers; i++) current.push(await start())
process.on('message', async () => {
  const old = current
  /** @type {Promise<boolean>[]} */
  const farewells = []
  current = []
  for (const worker of old) {
    current.push(await start())
    farewells.push(retire(worker))
  }
  process.send({ killed: (await Promise.all(farewells)).some(Boolean) })
})
process.on('SIGINT', () => {
  for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGKILL')
  process.exit()
})
process.send('ready')
