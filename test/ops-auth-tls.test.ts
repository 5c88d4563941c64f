import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import net from 'node:net'
import { test } from 'node:test'
import { freshToken, openDoor, route, until, type Asking } from './_ops-door.ts'
import { Doorkeeper } from '../src/ops/http/doorkeeper.ts'
import { settle } from '../src/ops/settle.ts'
import type { Scope } from '../src/ops/http/route.ts'
import { CERTIFICATE } from './_world.ts'

/** Made for these tests and used nowhere else: an authority, a client `ann` that it signed, and another `ann` that signed herself. */
const fixture = (name: string) => readFileSync(new URL(`fixtures/ops-${name}.pem`, import.meta.url), 'utf8')
const authority = fixture('ca')
const ann = { cert: fixture('client'), key: fixture('client-key') }
const stranger = { cert: fixture('stranger'), key: fixture('stranger-key') }

const trust = { ca: CERTIFICATE.cert, servername: 'localhost' }

async function opened(certificates: Record<string, Scope[]>, more: object = {}) {
  const token = freshToken()
  const site = await openDoor({
    routes: [route('/info', 'read'), route('/gc', 'control', { method: 'POST' }), route('/livez', null)],
    options: {
      listen: { host: '127.0.0.1', port: 0, tls: { ...CERTIFICATE, ca: authority } },
      auth: { certificates, tokens: [{ name: 'bob', scopes: ['control'], token }] }, limits: { failures: { burst: 1_000, perSecond: 1_000 } }, ...more,
    },
  })
  const status = async (path: string, asking: Asking = {}) => (await site.ask(path, { token: null, ...asking, tls: { ...trust, ...asking.tls } })).status
  return { site, status, token }
}

test('over TLS a client certificate says who one is, by its name', async () => {
  const { site, status } = await opened({ ann: ['read'] })
  assert.match(site.url, /^https:/)
  assert.equal(await status('/info', { tls: ann }), 200)
  assert.equal(await status('/gc', { method: 'POST', tls: ann }), 403)
  await site.close()
})

test('over TLS a client certificate says who one is, by its fingerprint', async () => {
  const { site, status } = await opened({ [new X509Certificate(ann.cert).fingerprint256]: ['control'], ann: ['read'] })
  assert.deepEqual([await status('/gc', { method: 'POST', tls: ann }), await status('/info', { tls: ann })], [200, 403])
  await until('the audit has it', () => site.entries.some(({ event, who }) => event === 'end' && who === new X509Certificate(ann.cert).fingerprint256))
  await site.close()
})

test('a certificate of nobody that we trust gives nothing, whatever its name and fingerprint', async () => {
  const { site, status } = await opened({ ann: ['read'], [new X509Certificate(stranger.cert).fingerprint256]: ['read'] })
  assert.equal(await status('/info', { tls: stranger }), 401)
  assert.equal(await status('/info'), 401)
  assert.equal(await status('/livez', { tls: stranger }), 200)
  await site.close()
})

test('a certificate that we trust and that nobody named gives nothing', async () => {
  const { site, status } = await opened({ bob: ['read'], ['constructor' as string]: ['read'] })
  assert.equal(await status('/info', { tls: ann }), 401)
  await site.close()
})

test("a certificate whose subject's name is another's fingerprint is not taken for that one", async () => {
  const { fingerprint256 } = new X509Certificate(ann.cert)
  const listen = { port: 0, tls: { ...CERTIFICATE, ca: authority } }
  const keeper = new Doorkeeper(settle({ listen, auth: { certificates: { [fingerprint256]: ['control'], bob: ['read'] } } }), undefined, () => {}, () => {})
  const enter = async (CN: string, fingerprint256 = 'AB') => {
    const getPeerCertificate = () => ({ subject: { CN }, fingerprint256, valid_to: 'Jan  1 00:00:00 2100 GMT' })
    const socket = { encrypted: true, authorized: true, remoteAddress: '127.0.0.1', getPeerCertificate }
    return (await keeper.admit({ socket, headers: {} } as unknown as IncomingMessage, '/info')).name
  }
  for (const name of [fingerprint256, fingerprint256.toLowerCase()]) await assert.rejects(enter(name), { code: 'ERR_LAMEDUCK_OPS_TOKEN' })
  assert.deepEqual([await enter('bob'), await enter('any', fingerprint256)], ['bob', fingerprint256])
})

test('of a client with a certificate who has hung up nobody asks for that certificate', async () => {
  const listen = { port: 0, tls: { ...CERTIFICATE, ca: authority } }
  const keeper = new Doorkeeper(settle({ listen, auth: { certificates: { bob: ['read'] } } }), undefined, () => {}, () => {})
  const socket = {
    encrypted: true, authorized: true, remoteAddress: '127.0.0.1', destroyed: false,
    // As Node says it when the connection is gone.
    getPeerCertificate: () => socket.destroyed ? null : { subject: { CN: 'bob' }, fingerprint256: 'AB', valid_to: 'Jan  1 00:00:00 2100 GMT' },
  }
  const req = { socket, headers: {} } as unknown as IncomingMessage
  assert.equal((await keeper.admit(req, '/info')).name, 'bob')
  assert.equal(keeper.knows(req.socket), true)
  socket.destroyed = true
  assert.equal(keeper.knows(req.socket), false)
  await assert.rejects(keeper.admit(req, '/info'), { code: 'ERR_LAMEDUCK_OPS_TOKEN' })
})

test('a token is as good without a certificate, goes before one, and a wrong one is not made good by one', async () => {
  const { site, status, token } = await opened({ ann: ['read'] })
  assert.equal(await status('/gc', { method: 'POST', token }), 200)
  assert.deepEqual([await status('/gc', { method: 'POST', token, tls: ann }), await status('/info', { token, tls: ann })], [200, 403])
  assert.equal(await status('/info', { token: freshToken(), tls: ann }), 401)
  await site.close()
})

test('a page of our own over TLS is not taken for one of http', async () => {
  const { site, status } = await opened({ ann: ['read'] })
  const { host } = new URL(site.url)
  assert.equal(await status('/info', { tls: ann, headers: { Origin: `https://${host}` } }), 200)
  assert.equal(await status('/info', { tls: ann, headers: { Origin: `http://${host}` } }), 403)
  await site.close()
})

test('who speaks no TLS, or breaks it off, is sent away, and the endpoint goes on and closes', async () => {
  const { site, status } = await opened({ ann: ['read'] }, { limits: { requestMs: 300 } })
  const port = Number(new URL(site.url).port)
  const plain = net.connect(port, '127.0.0.1', () => plain.write('GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n'))
  const silent = net.connect(port, '127.0.0.1')
  for (const socket of [plain, silent]) {
    socket.on('error', () => {}).resume()
    await new Promise(resolve => socket.once('close', resolve))
  }
  // Its time is as short: on a machine that stops for longer than that one asks again.
  let found = 0
  for (let i = 0; i < 50 && found !== 200; i++) found = await status('/info', { tls: ann }).catch(() => 0)
  assert.equal(found, 200)
  await until('the audit has it', () => site.entries.some(({ code }) => code === 'ERR_LAMEDUCK_OPS_TLS'))
  const held = net.connect(port, '127.0.0.1').on('error', () => {})
  await new Promise(resolve => held.once('connect', resolve))
  await site.close()
})
