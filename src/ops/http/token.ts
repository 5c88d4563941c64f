import { createHash } from 'node:crypto'
import { refusal } from '../refusal.ts'

/** A token's characters (RFC 6750 §2.1, `b68token`). */
const TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/

/** 32 bytes as base64 without padding. Nothing shorter is ever looked at. */
export const SHORTEST_TOKEN = 43

/** All that is kept of a token, and all that is compared: 32 bytes, whatever the token's length. */
export function digestOf(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest()
}

/**
 * Refuses tokens that cannot be 32 random bytes: too short, or of too few different characters. 43 random base64 characters have 31 different
 * ones on average, 64 hexadecimal digits 15.7: eight or fewer do not come up by chance.
 *
 * @throws {LameduckError} `ERR_LAMEDUCK_OPTION`, without the token.
 */
export function checkToken(name: string, token: unknown): void {
  const allowed = 'at least 32 random bytes as base64url, base64 (43 characters) or hex (64), as of `openssl rand -hex 32`'
  const refuse = (what: string): never => {
    throw refusal('ERR_LAMEDUCK_OPTION', `${name} is ${what}; allowed: ${allowed}`)
  }
  if (typeof token !== 'string') return refuse(`of type ${token === null ? 'null' : typeof token}`)
  if (!TOKEN.test(token)) return refuse(`a string of ${token.length} characters, of which some cannot be in a bearer token`)
  const hex = /^[0-9a-f]+$/i.test(token)
  if (token.replace(/=+$/, '').length < (hex ? 64 : SHORTEST_TOKEN)) return refuse(`a string of ${token.length} ${hex ? 'hexadecimal digits' : 'characters'}`)
  if (new Set(token).size <= 8) return refuse(`a string of ${new Set(token).size} different characters, which is not random`)
}
