import { check } from '../core/options.ts'
import { Keyring } from './http/keyring.ts'
import { SCOPES, type Scope } from './http/route.ts'
import { checkToken, digestOf } from './http/token.ts'
import type { AuthOptions, Listen, Settings, TokenOptions } from './options.ts'
import { refusal } from './refusal.ts'

/** Environment variables that held a token: taken out of this process's environment, so that no child and no dump has them. */
export class Secrets {
  #names = new Set<string>()

  take(name: string): string | undefined {
    this.#names.add(name)
    return process.env[name]
  }

  forget(): void {
    for (const name of this.#names) delete process.env[name]
  }
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''

function checkScopes(name: string, scopes: unknown): asserts scopes is Scope[] {
  const allowed = `an array of ${SCOPES.join(', ')}`
  check(name, scopes, Array.isArray(scopes), allowed)
  for (const scope of scopes as unknown[]) check(name, scope, (SCOPES as readonly unknown[]).includes(scope), allowed)
}

/** As `checkKeys`, without the values: a misspelt `token` has one, too. */
function checkNames(name: string, value: unknown, known: object): void {
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value)
  check(name, Array.isArray(value) ? 'an array' : value === null ? 'null' : typeof value, isRecord, 'an object')
  const unknown = Object.keys(value as object).find(key => !Object.hasOwn(known, key))
  if (unknown !== undefined) throw refusal('ERR_LAMEDUCK_OPTION', `${name}.${unknown} is no option; allowed: ${Object.keys(known).join(', ')}`)
}

/** Names go into the audit and into log lines. */
function checkName(name: string, value: unknown): void {
  check(name, value, typeof value === 'string' && /^[\w.@:+/ -]{1,64}$/.test(value), '1 to 64 letters, digits, spaces and . _ - @ : + /')
}

/** What a token's option may say beside where it comes from. @returns When it ends, for the digest's entry. */
function checkAbout(name: string, { name: holder, scopes, expires }: TokenOptions): void {
  checkName(`${name}.name`, holder)
  checkScopes(`${name}.scopes`, scopes)
  const ok = expires === undefined || (typeof expires === 'string' && /^\d{4}-\d\d-\d\d/.test(expires) && !Number.isNaN(Date.parse(expires)))
  check(`${name}.expires`, expires, ok, 'a date as ISO 8601')
}

/** The one option that says where the token is. Which value it has is nobody's business in an error message. */
function digest(name: string, options: TokenOptions, secrets: Secrets): Pick<TokenOptions, 'sha256' | 'file'> {
  const sources = (['token', 'sha256', 'env', 'file'] as const).filter(source => options[source] !== undefined)
  check(name, sources, sources.length === 1, 'exactly one of token, sha256, env and file')
  const { token, sha256, env, file } = options
  if (file !== undefined) {
    check(`${name}.file`, file, isText(file), 'the path of a file')
    return { file }
  }
  if (sha256 !== undefined) {
    check(`${name}.sha256`, typeof sha256 === 'string' ? `${sha256.length} characters` : typeof sha256, /^[0-9a-f]{64}$/i.test(sha256), '64 hexadecimal digits')
    return { sha256: sha256.toLowerCase() }
  }
  if (env !== undefined) {
    check(`${name}.env`, env, isText(env), 'the name of an environment variable')
    const value = secrets.take(env)
    if (value === undefined) throw refusal('ERR_LAMEDUCK_OPTION', `${name}.env is '${env}', which is not set; allowed: a variable that holds a token`)
    checkToken(`${name}.env (${env})`, value.trim())
    return { sha256: digestOf(value.trim()).toString('hex') }
  }
  checkToken(`${name}.token`, token)
  return { sha256: digestOf(token as string).toString('hex') }
}

function settleTokens(tokens: unknown, secrets: Secrets): TokenOptions[] {
  check('options.auth.tokens', tokens, Array.isArray(tokens), 'an array of { name, scopes, token | sha256 | env | file, expires }')
  return (tokens as TokenOptions[]).map((options, i) => {
    const name = `options.auth.tokens[${i}]`
    checkNames(name, options, { name: '', scopes: [], token: '', sha256: '', env: '', file: '', expires: '' })
    checkAbout(name, options)
    const { name: holder, scopes, expires } = options
    return { name: holder, scopes: [...scopes], ...(expires === undefined ? {} : { expires }), ...digest(name, options, secrets) }
  })
}

function settleCertificates(certificates: unknown, listen: Listen | false): Record<string, Scope[]> {
  const allowed = 'an object: scopes by common name or fingerprint256'
  check('options.auth.certificates', certificates, typeof certificates === 'object' && certificates !== null && !Array.isArray(certificates), allowed)
  const trusts = listen !== false && 'tls' in listen && listen.tls?.ca !== undefined
  check('options.auth.certificates', 'given', trusts, 'only with options.listen.tls.ca, the authorities to trust')
  const all: Record<string, Scope[]> = {}
  for (const [name, scopes] of Object.entries(certificates as object)) {
    checkScopes(`options.auth.certificates['${name}']`, scopes)
    all[name] = [...scopes]
  }
  return all
}

/** @throws {LameduckError} `ERR_LAMEDUCK_OPTION` */
export function settleAuth(auth: AuthOptions, listen: Listen | false, secrets: Secrets): Settings['auth'] {
  checkNames('options.auth', auth, { tokens: [], file: '', certificates: {}, socket: [], authorize: () => null })
  const { tokens, file, certificates, socket, authorize } = auth
  check('options.auth.authorize', authorize, authorize === undefined || typeof authorize === 'function', 'a function')
  check('options.auth.file', file, file === undefined || isText(file), 'the path of a JSON file')
  const all: Settings['auth'] = { tokens: settleTokens(tokens ?? [], secrets), authorize: authorize !== undefined }
  if (file !== undefined) all.file = file
  if (certificates !== undefined) all.certificates = settleCertificates(certificates, listen)
  if (socket !== undefined) checkScopes('options.auth.socket', socket)
  const closed = (all.tokens ?? []).length > 0 || file !== undefined
  all.socket = socket ? [...socket] : closed ? [] : ['read', 'diag', 'control']
  // Reads the files, and finds a token that is there twice.
  const ring = new Keyring(all)
  ring.close()
  return all
}
