import { timingSafeEqual } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs'
import type { Settings, TokenOptions } from '../options.ts'
import { refusal } from '../refusal.ts'
import { SCOPES, type Scope } from './route.ts'
import { checkToken, digestOf } from './token.ts'

/** How often a token file is looked at, at most. */
const LOOK_MS = 1_000

/** A token file of more than this is none. */
const LONGEST_FILE = 2 ** 20

/** One token, of which only the digest is known. */
interface Key {
  name: string
  scopes: ReadonlySet<Scope>
  digest: Buffer
  /** `Date.now()` of its end. */
  expiresAt: number
}

/** A file with tokens, and what was in it when it last was in order. */
interface Source {
  path: string
  parse(text: string): Key[]
  keys: Key[]
  /** Of the file as it was last read, in order or not. */
  stamp: string
}

/** What came of a token. */
export interface Found {
  name: string
  scopes: ReadonlySet<Scope>
  expired: boolean
  /** Whether it still counts, later: not revoked, not expired. */
  inForce(): boolean
}

function key(name: string, scopes: readonly Scope[], digest: Buffer, expires?: string): Key {
  return { name, scopes: new Set(scopes), digest, expiresAt: expires === undefined ? Infinity : Date.parse(expires) }
}

/** One token a line. */
function parseLines({ name, scopes, expires, file }: TokenOptions): (text: string) => Key[] {
  return text => text.split('\n').map(line => line.trim()).filter(Boolean).map((token, i) => {
    checkToken(`line ${i + 1} of ${file}`, token)
    return key(name, scopes, digestOf(token), expires)
  })
}

/** An array as `auth.tokens` is one, with tokens or digests. */
function parseArray(path: string): (text: string) => Key[] {
  const refuse = (what: string): never => {
    throw refusal('ERR_LAMEDUCK_OPTION', `${path} ${what}; allowed: a JSON array of { name, scopes, token | sha256, expires }`)
  }
  return text => {
    let all: unknown
    try {
      all = JSON.parse(text)
    } catch {
      // The parser's own message quotes the text.
      return refuse('is not JSON')
    }
    if (!Array.isArray(all)) return refuse('holds no array')
    return all.map((one: Partial<TokenOptions> | null, i) => {
      const { name, scopes, token, sha256, expires, ...others } = one ?? {}
      if (typeof name !== 'string' || !/^[\w.@:+/ -]{1,64}$/.test(name)) return refuse(`has no good name at [${i}]`)
      if (!Array.isArray(scopes) || !scopes.every(scope => SCOPES.includes(scope))) return refuse(`has no good scopes at [${i}]`)
      if (Object.keys(others).length > 0) return refuse(`has more than it may at [${i}]: ${Object.keys(others).join(', ').slice(0, 100)}`)
      if (expires !== undefined && Number.isNaN(Date.parse(expires))) return refuse(`has no good date at [${i}]`)
      if ((token === undefined) === (sha256 === undefined)) return refuse(`has not exactly one of token and sha256 at [${i}]`)
      if (token !== undefined) checkToken(`${path}[${i}].token`, token)
      else if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/i.test(sha256)) return refuse(`has no good sha256 at [${i}]`)
      return key(name, scopes, token === undefined ? Buffer.from(sha256 as string, 'hex') : digestOf(token), expires)
    })
  }
}

/** Reads a file that nobody else may read or change. Symbolic links are followed: Kubernetes mounts secrets as such. */
function readPrivate(path: string): string {
  // Not blocked by a FIFO in its place.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const { mode, uid, size } = fstatSync(fd)
    const refuse = (what: string): never => {
      throw refusal('ERR_LAMEDUCK_OPTION', `${path} ${what}; allowed: a file of this user or root, closed to others (chmod 600)`)
    }
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) return refuse('is no file')
    if ((mode & 0o027) !== 0) return refuse(`has mode 0${(mode & 0o777).toString(8)}`)
    if (process.getuid && uid !== process.getuid() && uid !== 0) return refuse(`belongs to user ${uid}`)
    if (size > LONGEST_FILE) return refuse(`has ${size} bytes`)
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

function stampOf(path: string): string {
  try {
    const { ino, size, mtimeMs, ctimeMs } = statSync(path)
    return `${ino} ${size} ${mtimeMs} ${ctimeMs}`
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code)
  }
}

/** What a failed look says, without anything of the file's content. */
const sayWhy = (error: unknown) => (error as NodeJS.ErrnoException).syscall ? String((error as NodeJS.ErrnoException).code) : (error as Error).message

/** The tokens in force: of the options, of files each of which may change. At any moment each file's last good content counts. */
export class Keyring {
  #fixed: Key[] = []
  #sources: Source[] = []
  #note: (what: Record<string, unknown>) => void
  #lookedAt = performance.now()

  /**
   * @param note Hears that a file was read anew, or cannot be used: for the audit.
   * @throws {LameduckError} `ERR_LAMEDUCK_OPTION` when a file cannot be used from the start, or a token is there twice.
   */
  constructor(auth: Settings['auth'], note: (what: Record<string, unknown>) => void = () => {}) {
    this.#note = note
    for (const options of auth.tokens ?? []) {
      const { name, scopes, sha256, file, expires } = options
      if (sha256 !== undefined) {
        const twin = this.#fixed.find(({ digest }) => digest.toString('hex') === sha256)
        if (twin) throw refusal('ERR_LAMEDUCK_OPTION', `options.auth.tokens has the token of '${name}' twice, as '${twin.name}', too; allowed: each once`)
        this.#fixed.push(key(name, scopes, Buffer.from(sha256, 'hex'), expires))
      }
      if (file !== undefined) this.#sources.push({ path: file, parse: parseLines(options), keys: [], stamp: '' })
    }
    if (auth.file !== undefined) this.#sources.push({ path: auth.file, parse: parseArray(auth.file), keys: [], stamp: '' })
    for (const source of this.#sources) {
      try {
        this.#read(source)
      } catch (error) {
        throw refusal('ERR_LAMEDUCK_OPTION', `the token file ${source.path} cannot be used: ${sayWhy(error)}${(error as NodeJS.ErrnoException).syscall ? '; allowed: a file of this user or root, closed to others' : ''}`)
      }
    }
  }

  get size(): number {
    return this.#fixed.length + this.#sources.reduce((sum, { keys }) => sum + keys.length, 0)
  }

  /**
   * Whose token this is. Every key is compared, found or not, on digests of equal length in constant time: neither how much of a token was right
   * nor which one can be told from the time.
   */
  find(token: string): Found | undefined {
    this.#look()
    const digest = digestOf(token)
    let found: Key | undefined
    for (const keys of [this.#fixed, ...this.#sources.map(source => source.keys)]) {
      for (const key of keys) if (timingSafeEqual(key.digest, digest)) found = key
    }
    return found && { name: found.name, scopes: found.scopes, expired: Date.now() >= found.expiresAt, inForce: () => this.#holds(digest) }
  }

  /** Reads every file again, changed or not. @returns How many tokens are in force, and which files could not be used. */
  reload(): { tokens: number; failed: string[] } {
    this.#lookedAt = performance.now()
    const failed = this.#sources.filter(source => !this.#renew(source)).map(source => source.path)
    return { tokens: this.size, failed }
  }

  close(): void {
    this.#fixed = []
    this.#sources = []
  }

  #holds(digest: Buffer): boolean {
    this.#look()
    return [this.#fixed, ...this.#sources.map(source => source.keys)].some(keys => keys.some(key => key.digest.equals(digest) && Date.now() < key.expiresAt))
  }

  /** Reads what has changed; looks at most once a second, when somebody comes. */
  #look(): void {
    const now = performance.now()
    if (this.#sources.length === 0 || now - this.#lookedAt < LOOK_MS) return
    this.#lookedAt = now
    for (const source of this.#sources) if (stampOf(source.path) !== source.stamp) this.#renew(source)
  }

  #renew(source: Source): boolean {
    try {
      this.#read(source)
      this.#note({ file: source.path, outcome: 'read', tokens: source.keys.length })
      return true
    } catch (error) {
      this.#note({ file: source.path, outcome: 'kept', tokens: source.keys.length, reason: sayWhy(error) })
      return false
    }
  }

  #read(source: Source): void {
    // Taken first: what changes after it is seen by the next look.
    source.stamp = stampOf(source.path)
    const keys = source.parse(readPrivate(source.path))
    const others = [this.#fixed, ...this.#sources.filter(other => other !== source).map(other => other.keys)].flat()
    const seen = new Set(others.map(({ digest }) => digest.toString('hex')))
    for (const { name, digest } of keys) {
      const hex = digest.toString('hex')
      if (seen.has(hex)) throw refusal('ERR_LAMEDUCK_OPTION', `${source.path} holds a token of '${name}' that is there already; allowed: each once`)
      seen.add(hex)
    }
    source.keys = keys
  }
}
