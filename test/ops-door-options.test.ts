import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { LameduckError } from '../src/core/index.ts'
import { DEFAULTS, type OpsOptions } from '../src/ops/options.ts'
import { settle } from '../src/ops/settle.ts'
import { folder, freshToken } from './_ops-door.ts'
import { CERTIFICATE } from './_world.ts'

/** A refusal: has the code, and its message names the option, what was given and what is allowed. */
function refused(options: unknown, code: string, ...words: string[]): string {
  let message = ''
  assert.throws(() => settle(options as OpsOptions), (error: unknown) => {
    assert.ok(error instanceof LameduckError)
    assert.equal(error.code, code)
    message = error.message
    for (const word of [...words, 'allowed']) assert.ok(message.includes(word), `"${message}" does not mention ${word}`)
    return true
  })
  return message
}

/** As wrap() returns it, with one check. */
const duck = { drain() {}, stats() {}, checks: ['database'] }
const token = freshToken()
const one = (more: object) => ({ auth: { tokens: [{ name: 'ann', scopes: ['read'], ...more }] } })

/** Options, and what the message must name. */
const bad: [options: unknown, ...words: string[]][] = [
  [null, 'options'],
  [{ lisen: 1 }, 'options.lisen', '1'],
  ...[1, 'x', null, [], true].map((listen): [unknown, ...string[]] => [{ listen }, 'options.listen', inspect(listen)]),
  [{ listen: { path: '' } }, 'options.listen.path', "''"],
  [{ listen: { path: 'a\0b' } }, 'options.listen.path'],
  [{ listen: { path: `/${'x'.repeat(107)}` } }, 'options.listen.path', 'sun_path'],
  // Its own name fits, the one under which it is bound does not.
  [{ listen: { path: `/${'x'.repeat(100)}/y` } }, 'options.listen.path', 'sun_path'],
  [{ listen: { path: '/x', port: 1 } }, 'options.listen.port'],
  ...[-1, 65_536, 1.5, '80', null].map((port): [unknown, ...string[]] => [{ listen: { port } }, 'options.listen.port', inspect(port)]),
  ...['', '[::1]', 'a b', 1].map((host): [unknown, ...string[]] => [{ listen: { host } }, 'options.listen.host', inspect(host)]),
  [{ listen: { tls: { cert: CERTIFICATE.cert } } }, 'options.listen.tls.key'],
  [{ listen: { tls: { ...CERTIFICATE, key: '/nowhere/key.pem' } } }, 'options.listen.tls.key', 'ENOENT'],
  [{ listen: { tls: { ...CERTIFICATE, cert: '-----BEGIN nothing' } } }, 'options.listen.tls'],
  [{ listen: { tls: { ...CERTIFICATE, passphrase: 'x' } } }, 'options.listen.tls.passphrase'],
  ...[[], 'localhost', [''], ['a/b'], ['http://a'], ['a:b'], ['*'], [1]].map((hosts): [unknown, ...string[]] => [{ hosts }, 'options.hosts']),
  [{ duck, health: { groups: { startup: ['database', 'databse'] } } }, 'options.health.groups.startup', "'databse'", ': database'],
  [{ health: { groups: { startup: ['database'] } } }, 'options.health.groups.startup', 'no checks'],
  [{ auth: { tokens: {} } }, 'options.auth.tokens'],
  [{ auth: { token } }, 'options.auth.token'],
  [one({}), 'options.auth.tokens[0]', 'token, sha256, env and file'],
  [one({ token, env: 'X' }), 'options.auth.tokens[0]', 'exactly one'],
  [one({ token, name: '' }), 'options.auth.tokens[0].name'],
  [one({ token, name: 'a\nb' }), 'options.auth.tokens[0].name'],
  [one({ token, scopes: 'read' }), 'options.auth.tokens[0].scopes', 'secrets'],
  [one({ token, scopes: ['root'] }), 'options.auth.tokens[0].scopes', "'root'"],
  [one({ token, expires: 'tomorrow' }), 'options.auth.tokens[0].expires', "'tomorrow'"],
  [one({ token, expires: '2030-13-01' }), 'options.auth.tokens[0].expires'],
  [one({ sha256: 'abc' }), 'options.auth.tokens[0].sha256', '3 characters', '64'],
  [one({ env: 'LAMEDUCK_TEST_UNSET' }), 'LAMEDUCK_TEST_UNSET', 'not set'],
  [one({ file: '/nowhere/token' }), '/nowhere/token', 'ENOENT'],
  [{ auth: { file: '/nowhere/tokens.json' } }, '/nowhere/tokens.json', 'ENOENT'],
  [{ auth: { socket: ['all'] } }, 'options.auth.socket', "'all'"],
  [{ auth: { authorize: 'yes' } }, 'options.auth.authorize', "'yes'"],
  [{ auth: { certificates: { ann: ['read'] } } }, 'options.auth.certificates', 'options.listen.tls.ca'],
  ...[0, -1, 1.5, '16', Infinity].map((connections): [unknown, ...string[]] => [{ limits: { connections } }, 'options.limits.connections', inspect(connections)]),
  ...['headBytes', 'bodyBytes', 'requestMs'].flatMap(name => [-1, 0, Number.NaN, 2 ** 40, '1'].map((value): [unknown, ...string[]] => [{ limits: { [name]: value } }, `options.limits.${name}`, inspect(value)])),
  [{ limits: { failures: { burst: 0 } } }, 'options.limits.failures.burst', '0'],
  [{ limits: { calls: { perSecond: -1 } } }, 'options.limits.calls.perSecond', '-1'],
  [{ files: { dir: '' } }, 'options.files.dir'],
  ...['count', 'bytes', 'ageMs'].map((name): [unknown, ...string[]] => [{ files: { [name]: 0 } }, `options.files.${name}`, '0']),
  [{ files: { freeBytes: -1 } }, 'options.files.freeBytes', '-1'],
  [{ heavy: { cooldownMs: -1 } }, 'options.heavy.cooldownMs', '-1'],
  [{ heavy: { perDay: 1.5 } }, 'options.heavy.perDay', '1.5'],
  ...[0, -5, 1e9, 'x'].map((profileSeconds): [unknown, ...string[]] => [{ heavy: { profileSeconds } }, 'options.heavy.profileSeconds', inspect(profileSeconds)]),
  [{ audit: '' }, 'options.audit'],
  [{ audit: true }, 'options.audit', 'true'],
  ...['eval', 'page', 'thread'].map((name): [unknown, ...string[]] => [{ [name]: 'yes' }, `options.${name}`, "'yes'"]),
]

test('ops: a duck of an older copy of the package, which does not tell its checks, may have any in a group', () => {
  const older = { ...duck, checks: undefined } as unknown as NonNullable<OpsOptions['duck']>
  assert.ok(settle({ duck: older, health: { groups: { startup: ['database', 'cache'] } } }))
})

const short = (text: string) => (text.length > 160 ? `${text.slice(0, 160)}…` : text)

for (const [options, ...words] of bad) {
  const shown = inspect(options, { depth: 6, compact: true, breakLength: Infinity }).replaceAll(token, 'TOKEN')
  test(`ops: ${short(shown)} is refused`, () => {
    const message = refused(options, 'ERR_LAMEDUCK_OPTION', ...words)
    assert.ok(!message.includes(token) && !message.includes('PRIVATE KEY'), message)
  })
}

/** Not 32 random bytes, and a word of why. */
const weak: [token: unknown, why: string][] = [
  ['', 'characters'],
  ['secret', '6 characters'],
  [freshToken().slice(1), '42 characters'],
  [freshToken().slice(1).padEnd(43, '='), '43 characters'],
  ['0123456789abcdef'.repeat(3), '48 hexadecimal digits'],
  ['a'.repeat(64), '1 different'],
  ['abcdefgh'.repeat(8), '8 different'],
  [`${freshToken()} x`, 'cannot be in a bearer token'],
  [null, 'null'],
  [1, 'number'],
]

for (const [i, [given, why]] of weak.entries()) {
  test(`ops: a token that is weak (${i}: ${why}) is refused, and not quoted`, () => {
    const message = refused(one({ token: given }), 'ERR_LAMEDUCK_OPTION', 'options.auth.tokens[0].token', why, '32 random bytes')
    if (typeof given === 'string' && given.length > 5) assert.ok(!message.includes(given))
  })
}

test('ops: the same token twice is refused', () => {
  const two = { auth: { tokens: [{ name: 'ann', scopes: ['read'], token }, { name: 'bob', scopes: ['eval'], token }] } }
  const message = refused(two, 'ERR_LAMEDUCK_OPTION', 'ann', 'bob', 'once')
  assert.ok(!message.includes(token))
})

/** Addresses beyond this machine. */
const open = ['0.0.0.0', '::', '10.0.0.1', '192.168.1.1', '128.0.0.1', 'example.org', 'localhost.example.org', '127.0.0.1.example.org', '127.1', '::2', 'fe80::1']

for (const host of open) {
  test(`ops: listening on ${host} without TLS and authorisation is refused`, () => {
    const tls = CERTIFICATE
    const auth = { tokens: [{ name: 'ann', scopes: ['read'], token }] }
    const name = `'${host}'`
    refused({ listen: { host } }, 'ERR_LAMEDUCK_OPS_INSECURE', name, 'options.listen.tls and options.auth')
    refused({ listen: { host }, auth }, 'ERR_LAMEDUCK_OPS_INSECURE', name, 'options.listen.tls is')
    refused({ listen: { host, tls } }, 'ERR_LAMEDUCK_OPS_INSECURE', name, 'options.auth is')
    // Scopes for nobody, and for who comes through a socket that is not there.
    refused({ listen: { host, tls }, auth: { tokens: [], socket: ['read'] } }, 'ERR_LAMEDUCK_OPS_INSECURE', name)
    assert.ok(settle({ listen: { host, tls }, auth } as OpsOptions))
  })
}

for (const host of ['127.0.0.1', '127.1.2.3', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1', 'localhost', undefined]) {
  test(`ops: listening on ${host ?? 'the default address'} needs neither TLS nor authorisation`, () => {
    assert.ok(settle({ listen: host === undefined ? { port: 0 } : { host } }))
  })
}

test('ops: every default is there, and nothing in the settings is a function', () => {
  const settings = settle({ auth: { authorize: () => null } })
  assert.deepEqual(settings.limits, DEFAULTS.limits)
  assert.deepEqual(settings.heavy, DEFAULTS.heavy)
  assert.deepEqual({ ...settings.files, dir: '' }, { dir: '', ...DEFAULTS.files })
  assert.ok(settings.files.dir.endsWith(`/${process.pid}`), settings.files.dir)
  assert.deepEqual([settings.eval, settings.page, settings.thread, settings.auth.authorize], [false, true, true, true])
  assert.deepEqual(structuredClone(settings), settings)
})

test('ops: by default it listens on a unix socket in a folder of this user and process', () => {
  const { listen, hosts } = settle()
  assert.ok(listen && 'path' in listen)
  assert.match(listen.path, new RegExp(`/lameduck-${process.getuid?.()}/${process.pid}/ops\\.sock$`))
  assert.deepEqual(hosts, [])
})

test('ops: who opens the unix socket may read, diag and control, and nothing as soon as there are tokens', () => {
  assert.deepEqual(settle().auth.socket, ['read', 'diag', 'control'])
  assert.deepEqual(settle(one({ token }) as OpsOptions).auth.socket, [])
  assert.deepEqual(settle({ auth: { ...(one({ token }) as OpsOptions).auth, socket: ['read'] } }).auth.socket, ['read'])
})

test('ops: of a token only its SHA-256 is in the settings', () => {
  const settings = settle(one({ token }) as OpsOptions)
  assert.ok(!inspect(settings, { depth: 9 }).includes(token))
  assert.equal(settings.auth.tokens?.[0]?.sha256, createHash('sha256').update(token).digest('hex'))
})

test('ops: a token of an environment variable is taken out of the environment, but not when the options are refused', () => {
  process.env.LAMEDUCK_TEST_TOKEN = `${token}\n`
  try {
    refused({ ...one({ env: 'LAMEDUCK_TEST_TOKEN' }), page: 1 }, 'ERR_LAMEDUCK_OPTION', 'options.page')
    assert.equal(process.env.LAMEDUCK_TEST_TOKEN, `${token}\n`)
    const settings = settle(one({ env: 'LAMEDUCK_TEST_TOKEN' }) as OpsOptions)
    assert.equal(process.env.LAMEDUCK_TEST_TOKEN, undefined)
    assert.equal(settings.auth.tokens?.[0]?.sha256, createHash('sha256').update(token).digest('hex'))
  } finally {
    delete process.env.LAMEDUCK_TEST_TOKEN
  }
})

test('ops: a weak token in an environment variable is refused, and not quoted', () => {
  process.env.LAMEDUCK_TEST_TOKEN = 'hunter2hunter2'
  try {
    const message = refused(one({ env: 'LAMEDUCK_TEST_TOKEN' }), 'ERR_LAMEDUCK_OPTION', 'LAMEDUCK_TEST_TOKEN', '14 characters')
    assert.ok(!message.includes('hunter2'))
  } finally {
    delete process.env.LAMEDUCK_TEST_TOKEN
  }
})

test('ops: a certificate and key are taken as PEM text and as files', () => {
  const dir = folder()
  writeFileSync(join(dir, 'key.pem'), CERTIFICATE.key)
  const { listen } = settle({ listen: { tls: { cert: CERTIFICATE.cert, key: join(dir, 'key.pem') } } })
  assert.ok(listen && 'tls' in listen)
  assert.deepEqual(listen.tls, CERTIFICATE)
})

/** Content of a token file, and a word of why it is refused. */
const files: [text: string, mode: number, why: string][] = [
  ['[]', 0o644, '0644'],
  ['[]', 0o660, '0660'],
  ['{', 0o600, 'not JSON'],
  ['{}', 0o600, 'no array'],
  ['[null]', 0o600, 'name'],
  ['[{"name":"ann","scopes":["read"]}]', 0o600, 'exactly one'],
  ['[{"name":"ann","scopes":["root"],"token":"x"}]', 0o600, 'scopes'],
  ['[{"name":"ann","scopes":["read"],"token":"hunter2"}]', 0o600, '7 characters'],
  ['[{"name":"ann","scopes":["read"],"sha256":"x"}]', 0o600, 'sha256'],
  ['[{"name":"ann","scopes":["read"],"env":"X"}]', 0o600, 'env'],
]

for (const [text, mode, why] of files) {
  test(`ops: a token file with ${text} and mode 0${mode.toString(8)} is refused`, () => {
    const file = join(folder(), 'tokens.json')
    writeFileSync(file, text)
    chmodSync(file, mode)
    const message = refused({ auth: { file } }, 'ERR_LAMEDUCK_OPTION', file, why)
    assert.ok(!message.includes('hunter2'))
  })
}
