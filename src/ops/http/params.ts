import { inspect } from 'node:util'
import { refusal } from '../refusal.ts'
import { Problem } from './problem.ts'
import type { Param, Route } from './route.ts'

/** Where a call's parameters come from. */
export interface Given {
  path: Record<string, string>
  query: URLSearchParams
  /** Undefined: there was none. */
  body: Record<string, unknown> | undefined
}

/** Checks what was given. @throws {Problem} 400 `ERR_LAMEDUCK_OPS_PARAM` with `param`, `value` and `allowed`. */
export type Checked = (given: Given) => Record<string, unknown>

const CONTROLS = /[\p{Cc}\u2028\u2029]/u

function refuse(name: string, value: unknown, allowed: string): never {
  const shown = inspect(value, { depth: 0, maxStringLength: 80, breakLength: Infinity })
  const text = value === undefined ? 'missing' : shown
  throw new Problem(400, 'ERR_LAMEDUCK_OPS_PARAM', `${name} is ${text}; allowed: ${allowed}`, { param: name, value: value === undefined ? null : shown, allowed })
}

/** In words, for the one who got it wrong. */
function allowedBy({ type, min, max, enum: values, pattern }: Param): string {
  if (values) return values.map(value => `'${value}'`).join(', ')
  const unit = type === 'string' ? ' characters' : ''
  const range = min !== undefined && max !== undefined ? ` from ${min} to ${max}${unit}`
    : min !== undefined ? ` of at least ${min}${unit}`
      : max !== undefined ? ` of at most ${max}${unit}` : ''
  const noun = { string: 'a string', number: 'a number', integer: 'an integer', boolean: 'true or false', object: 'an object' }[type]
  return `${noun}${range}${pattern === undefined ? '' : ` matching ${pattern}`}`
}

/** Text of a path or a query as what it is to be; what it cannot be stays text, and is refused. */
function read(text: string, { type }: Param): unknown {
  if (type === 'boolean') return text === 'true' ? true : text === 'false' ? false : text
  // No hexadecimal, no exponent, no empty string as 0.
  if (type === 'number' || type === 'integer') return /^-?\d{1,20}(?:\.\d{1,20})?$/.test(text) ? Number(text) : text
  return text
}

function fits(value: unknown, param: Param, pattern: RegExp | undefined): boolean {
  const { type, min = -Infinity, max = Infinity, enum: values } = param
  if (type === 'boolean') return typeof value === 'boolean'
  if (type === 'object') return typeof value === 'object' && value !== null && !Array.isArray(value)
  if (type === 'string') {
    if (typeof value !== 'string' || value.length < min || value.length > max) return false
    // A body's may have lines: an expression does.
    if (param.in !== 'body' && CONTROLS.test(value)) return false
    return (values?.includes(value) ?? true) && (pattern?.test(value) ?? true)
  }
  if (typeof value !== 'number' || !Number.isFinite(value) || value < min || value > max) return false
  return type === 'number' || Number.isSafeInteger(value)
}

function pick(name: string, param: Param, { path, query, body }: Given): unknown {
  if (param.in === 'body') return body && Object.hasOwn(body, name) ? body[name] : undefined
  if (param.in === 'path') return path[name] === undefined ? undefined : read(path[name], param)
  const all = query.getAll(name)
  if (all.length > 1) refuse(name, all, 'once')
  return all[0] === undefined ? undefined : read(all[0], param)
}

/** Names that nobody asked for: a misspelt option must not be taken for its default. */
function checkUnknown(params: Record<string, Param>, { query, body }: Given): void {
  for (const [place, names] of [['query', [...query.keys()]], ['body', Object.keys(body ?? {})]] as const) {
    const known = Object.keys(params).filter(name => params[name]?.in === place)
    for (const name of names) {
      if (known.includes(name)) continue
      const shown = inspect(name, { maxStringLength: 80 })
      const allowed = known.length > 0 ? known.join(', ') : `nothing in the ${place}`
      throw new Problem(400, 'ERR_LAMEDUCK_OPS_PARAM', `${shown} is no parameter in the ${place}; allowed: ${allowed}`, { param: shown, value: null, allowed })
    }
  }
}

/** Makes the check of a route's parameters. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for a pattern or a default that cannot be. */
export function compile(route: Route): Checked {
  const { params = {} } = route
  const all = Object.entries(params).map(([name, param]) => {
    let pattern: RegExp | undefined
    try {
      if (param.pattern !== undefined) pattern = new RegExp(`^(?:${param.pattern})$`, 'u')
    } catch {
      throw refusal('ERR_LAMEDUCK_OPTION', `the pattern of ${route.method} ${route.path}'s ${name} is '${param.pattern}'; allowed: a regular expression`)
    }
    if (param.default !== undefined && !fits(param.default, param, pattern)) {
      throw refusal('ERR_LAMEDUCK_OPTION', `the default of ${route.method} ${route.path}'s ${name} is ${inspect(param.default)}; allowed: ${allowedBy(param)}`)
    }
    return { name, param, pattern, required: param.in === 'path' || param.required === true, allowed: allowedBy(param) }
  })
  return given => {
    checkUnknown(params, given)
    const values: Record<string, unknown> = {}
    for (const { name, param, pattern, required, allowed } of all) {
      const value = pick(name, param, given)
      if (value === undefined && !required) {
        if (param.default !== undefined) values[name] = param.default
        continue
      }
      if (!fits(value, param, pattern)) refuse(name, value, allowed)
      values[name] = value
    }
    return values
  }
}
