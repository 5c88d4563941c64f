import { createHash, randomBytes } from 'node:crypto'
import { createWriteStream, existsSync, lstatSync, realpathSync, statSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { Transform, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import type { Artifact } from './answers.ts'
import { unreachable, type Client } from './client.ts'
import type { Desk } from './desk.ts'
import { EXIT, Failure, usage } from './failure.ts'
import { bar, bytes } from './format.ts'
import { write } from './io.ts'
import { live, onInterrupt, type Live } from './live.ts'

/** Counts and hashes what comes over the wire, before it is unpacked. */
function meter(artifact: Artifact, view: Live): Transform & { sum(): string; count(): number } {
  const hash = createHash('sha256')
  let [count, painted] = [0, 0]
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      count += chunk.length
      const now = Date.now()
      if (now - painted < 100) return done(null, chunk)
      painted = now
      view.paint(`${bar(artifact.bytes > 0 ? count / artifact.bytes : 0)}  download: ${bytes(count)} of ${bytes(artifact.bytes)}`, `downloading ${artifact.name}`)
        .then(() => done(null, chunk), done)
    },
  })
  return Object.assign(stream, { sum: () => hash.digest('hex'), count: () => count })
}

/** What is no file is not replaced by one: as root that would be the end of /dev/null. */
function checkRegular(path: string): void {
  if (!existsSync(path) && lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) throw usage(`-o: ${path} is a link that leads nowhere`)
  const stats = existsSync(path) ? statSync(path) : undefined
  if (stats && !stats.isFile() && !stats.isDirectory()) throw usage(`-o: ${path} is no regular file`, '`-o - > FILE` writes to anything')
}

/** Where it goes: into the working folder by its own name, unpacked, unless told otherwise. */
function destination({ name, encoding }: Artifact, output: string | undefined, cwd: string): { file: string; unpack: boolean } {
  if (output === '-') return { file: '-', unpack: encoding === 'gzip' }
  // Whoever is at the other end does not choose our folder.
  const own = basename(name)
  const plain = encoding === 'gzip' && own.endsWith('.gz') ? own.slice(0, -3) : own
  if (output === undefined && !/^[\w][\w.-]*$/.test(plain)) throw new Failure('ERR_LAMEDUCK_CLI_ANSWER', `the file is called ${JSON.stringify(name)}`, { hint: 'give it a name: -o FILE' })
  const path = resolve(cwd, output ?? plain)
  const folder = statSync(path, { throwIfNoEntry: false })?.isDirectory()
  const named = folder ? join(path, plain) : path
  checkRegular(named)
  // What a link leads to is written, the link stays.
  const file = existsSync(named) ? realpathSync(named) : named
  return { file, unpack: encoding === 'gzip' && !file.endsWith('.gz') }
}

function localProblem(file: string, error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException
  if (syscall === undefined || !['open', 'write', 'rename', 'fsync', 'mkdir'].includes(syscall)) return error
  return new Failure('ERR_LAMEDUCK_CLI_FILE', `${file} cannot be written (${code})`, { hint: 'say where to: -o FILE; `lameduck ops artifacts get NAME` fetches it again' })
}

/** Fails early when there is no folder to write to, or something other than a file is in the way: before something costly is done for it. */
export function checkOutput(output: string | undefined, cwd: string): void {
  if (output === undefined || output === '-') return
  let folder
  try {
    checkRegular(resolve(cwd, output))
    folder = statSync(resolve(cwd, dirname(output)), { throwIfNoEntry: false })
  } catch (error) {
    // A file in the place of a folder, a name that is too long.
    const { code } = error as NodeJS.ErrnoException
    throw error instanceof Failure ? error : usage(`-o: nothing can be written to ${output} (${code})`)
  }
  if (!folder?.isDirectory()) throw usage(`-o: there is no folder ${dirname(output)}`)
}

/**
 * Fetches a file, checks its SHA-256, unpacks it unless its name ends in `.gz`. It comes under its name when it is whole, never before; 0600.
 *
 * @returns Its path, or `-` for stdout.
 * @throws {Failure} `ERR_LAMEDUCK_CLI_DIGEST` when it is not what was announced: nothing is left then.
 */
export async function download(desk: Desk, client: Client, artifact: Artifact, output?: string): Promise<string> {
  const { file, unpack } = destination(artifact, output, desk.io.cwd())
  const draft = `${file}.${randomBytes(4).toString('hex')}.part`
  const view = await live(desk.io.stderr)
  const interrupt = new AbortController()
  const stop = onInterrupt(desk.io, () => interrupt.abort())
  try {
    const answer = await client.open('GET', `/artifacts/${encodeURIComponent(artifact.name)}`, { accept: '*/*', signal: interrupt.signal })
    const measured = meter(artifact, view)
    const target = file === '-'
      ? new Writable({ write: (chunk: Buffer, _encoding, done) => void write(desk.io.stdout, chunk).then(() => done(), done) })
      : createWriteStream(draft, { flags: 'wx', mode: 0o600 })
    await (unpack ? pipeline(answer, measured, createGunzip(), target, { signal: interrupt.signal }) : pipeline(answer, measured, target, { signal: interrupt.signal }))
    const sum = measured.sum()
    if (artifact.sha256 && sum !== artifact.sha256) {
      throw new Failure('ERR_LAMEDUCK_CLI_DIGEST', `${artifact.name} arrived with SHA-256 ${sum}, announced was ${artifact.sha256}`, { hint: `fetch it again: lameduck ops artifacts get ${artifact.name}` })
    }
    if (file !== '-') await rename(draft, file)
    return file
  } catch (error) {
    if (file !== '-') await rm(draft, { force: true })
    if (interrupt.signal.aborted) throw new Failure('ERR_LAMEDUCK_CLI_INTERRUPTED', `interrupted: the file stays over there`, { exit: EXIT.interrupted, hint: `lameduck ops artifacts get ${artifact.name}` })
    const { code } = error as NodeJS.ErrnoException
    if (code === 'Z_DATA_ERROR' || code === 'Z_BUF_ERROR') throw new Failure('ERR_LAMEDUCK_CLI_DIGEST', `${artifact.name} cannot be unpacked (${code})`)
    const local = localProblem(file, error)
    throw local instanceof Failure ? local : unreachable(client.target, error)
  } finally {
    stop()
    view.end()
  }
}

