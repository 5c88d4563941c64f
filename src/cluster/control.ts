import { chmodSync, rmSync } from 'node:fs'
import net from 'node:net'
import { serve, type Commanded } from './control-session.ts'
import { defaultControlPath, findControlPaths, isLeftover, prepareFolder } from './control-path.ts'
import { ClusterError, clusterError } from './errors.ts'

/** A client that does not read its last answer is not waited for. */
const LAST_MS = 500

/** Whether somebody listens there. */
function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = net.connect(path)
    const done = (alive: boolean) => {
      socket.destroy()
      resolve(alive)
    }
    socket.once('connect', () => done(true))
    // Full (EAGAIN) or forbidden is alive, too.
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'))
  })
}

/** Takes away what supervisors of the same script left behind when they were killed. */
async function sweep(script: string, cwd: string | undefined): Promise<void> {
  for (const path of findControlPaths(script, cwd)) {
    try {
      if (isLeftover(path) && !(await answers(path))) rmSync(path, { force: true })
    } catch {
      // Somebody else's: not ours to remove.
    }
  }
}

/** The control socket of a supervisor: a unix socket of mode 0600, and on it commands as lines of JSON (see `control-session.ts`). */
export class Control {
  readonly path: string
  #script: string
  #cwd: string | undefined
  #server: net.Server
  #sessions = new Set<net.Socket>()
  /** Settles when `listen()` has. */
  #begun: Promise<unknown> = Promise.resolve()

  constructor(supervisor: Commanded, { script, cwd, path }: { script: string; cwd: string | undefined; path: string | undefined }) {
    this.path = path ?? defaultControlPath(script, cwd)
    this.#script = script
    this.#cwd = cwd
    this.#server = net.createServer(socket => {
      this.#sessions.add(socket)
      socket.once('close', () => this.#sessions.delete(socket))
      serve(socket, supervisor)
    })
  }

  /** @throws {ClusterError} `ERR_LAMEDUCK_CLUSTER_CONTROL` when the path is in use, somebody else's, or not to be had. */
  listen(): Promise<void> {
    const listening = this.#listen()
    this.#begun = listening.catch(() => {})
    return listening
  }

  async #listen(): Promise<void> {
    prepareFolder(this.path)
    await sweep(this.#script, this.#cwd)
    if (isLeftover(this.path)) {
      if (await answers(this.path)) {
        throw new ClusterError('ERR_LAMEDUCK_CLUSTER_CONTROL', `another supervisor listens on the control socket ${this.path}`)
      }
      rmSync(this.path, { force: true })
    }
    try {
      await this.#bind()
    } catch (error) {
      throw clusterError(new Error(`cannot listen on the control socket ${this.path}: ${(error as Error).message}`), 'ERR_LAMEDUCK_CLUSTER_CONTROL')
    }
  }

  #bind(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      // The file is made in this very turn: at no moment may others connect.
      const umask = process.umask(0o177)
      try {
        this.#server.listen(this.path, () => {
          this.#server.off('error', reject)
          this.#server.on('error', () => {})
          chmodSync(this.path, 0o600)
          resolve()
        })
      } finally {
        process.umask(umask)
      }
    })
  }

  /** Clients that wait for the end get it; then the socket and its file go. */
  async close(): Promise<void> {
    // A stop may come before that.
    await this.#begun
    if (!this.#server.listening) return
    const closed = new Promise<void>(resolve => {
      this.#server.close(() => resolve())
    })
    // Not before what the sessions still have to say has been written.
    setImmediate(() => this.#sessions.forEach(socket => socket.end()))
    const late = setTimeout(() => this.#sessions.forEach(socket => socket.destroy()), LAST_MS)
    await closed
    clearTimeout(late)
  }
}
