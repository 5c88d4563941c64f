import cluster, { type ClusterSettings } from 'node:cluster'
import { preload } from './preload.ts'
import { closeListeners, Handoff } from './handoff.ts'
import type { ForkPlan, Proc, ProcEvents, System } from './system.ts'

const handoffs = new WeakMap<Proc, Handoff>()

function fork({ exec, args, execArgv, cwd, env }: ForkPlan, on: ProcEvents): Proc {
  const stdio = ['ignore', 'pipe', 'pipe', 'ipc']
  // Settings stay from one fork to the next: what is not wished for has to be said, too. Hence a cwd that is undefined.
  cluster.setupPrimary({ exec, args: [...args], execArgv: [...execArgv, ...preload()], silent: false, stdio, cwd } as ClusterSettings)
  const worker = cluster.fork(env as NodeJS.ProcessEnv)
  const handoff = new Handoff(worker)
  const child = worker.process
  const { pid } = child
  if (pid === undefined) throw new Error(`no process could be started for ${exec}`)
  worker.on('message', (message: unknown) => on.message(message))
  child.once('exit', (code, signal) => on.exit({ code, signal }))
  const proc: Proc = {
    pid,
    stdout: child.stdout,
    stderr: child.stderr,
    admit: () => handoff.admit(),
    withdraw: () => handoff.withdraw(),
    send: message => {
      // With a callback an error is not emitted.
      if (child.connected) child.send(message, () => {})
    },
    kill: signal => {
      // The pid of one that has ended may be somebody else's by now: ChildProcess#kill knows.
      child.kill(signal)
    },
  }
  handoffs.set(proc, handoff)
  return proc
}

/** The process and the clock that there are. */
export const nodeSystem: System = {
  fork,
  closeListeners: procs => closeListeners(procs.flatMap(proc => handoffs.get(proc) ?? [])),
  now: () => performance.now(),
  epoch: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
  random: () => Math.random(),
}
