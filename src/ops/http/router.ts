import { refusal } from '../refusal.ts'
import { compile, type Checked } from './params.ts'
import { Problem } from './problem.ts'
import type { Route } from './route.ts'

/** A route, and what is made of it once. */
export interface Entry {
  route: Route
  checked: Checked
}

/** What there is at a path. */
export interface Match {
  /** By method. */
  entries: Map<string, Entry>
  /** Of the path's parameters, decoded. */
  values: Record<string, string>
}

/** One path, of which a segment is fixed, or `{name}`. */
interface Place {
  template: string
  segments: { name?: string; text: string }[]
  entries: Map<string, Entry>
}

const PATH = /^\/(?:$|(?:[\w.~:@-]+|\{\w+\})(?:\/(?:[\w.~:@-]+|\{\w+\}))*$)/

const isParam = (segment: string) => segment.startsWith('{')

/** The same for two templates that differ only in what they call their parameters. */
const shapeOf = (path: string) => path.replaceAll(/\{\w+\}/g, '{}')

/** Finds routes by path. Nothing is normalised: a path matches as it is, or not. */
export class Router {
  #places = new Map<string, Place>()

  /** @returns What takes it out again. @throws {LameduckError} `ERR_LAMEDUCK_OPTION` for a path or parameter that cannot be, or one that is taken. */
  add(route: Route): () => void {
    const { method, path } = route
    if (!PATH.test(path) || /\/\.{1,2}(?:\/|$)/.test(path)) throw refusal('ERR_LAMEDUCK_OPTION', `the route's path is '${path}'; allowed: segments of letters, digits and . _ ~ : @ -, or {name}`)
    const names = path.split('/').filter(isParam).map(segment => segment.slice(1, -1))
    const declared = Object.entries(route.params ?? {}).filter(([, param]) => param.in === 'path').map(([name]) => name)
    if (names.toSorted().join() !== declared.toSorted().join()) {
      throw refusal('ERR_LAMEDUCK_OPTION', `the route ${method} ${path} has the parameters '${declared.join()}' in its path; allowed: those of the path, each once`)
    }
    const shape = shapeOf(path)
    const segments = path.split('/').slice(1).map(text => isParam(text) ? { name: text.slice(1, -1), text } : { text })
    const place = this.#places.get(shape) ?? { template: path, segments, entries: new Map<string, Entry>() }
    if (place.template !== path || place.entries.has(method)) throw refusal('ERR_LAMEDUCK_OPTION', `the route ${method} ${path} is there already; allowed: each once`)
    place.entries.set(method, { route, checked: compile(route) })
    this.#places.set(shape, place)
    return () => {
      place.entries.delete(method)
      if (place.entries.size === 0) this.#places.delete(shape)
    }
  }

  routes(): Route[] {
    return [...this.#places.values()].flatMap(({ entries }) => [...entries.values()].map(({ route }) => route))
  }

  /** What is there; fixed segments go before parameters, from the left. */
  match(segments: readonly string[]): Match | undefined {
    let best: Place | undefined
    for (const place of this.#places.values()) {
      const fits = place.segments.length === segments.length
        && place.segments.every(({ name, text }, i) => name === undefined ? text === segments[i] : segments[i] !== '')
      if (fits && (best === undefined || rank(place) < rank(best))) best = place
    }
    if (!best) return undefined
    const values: Record<string, string> = {}
    for (const [i, { name }] of best.segments.entries()) if (name !== undefined) values[name] = decodeURIComponent(segments[i] as string)
    return { entries: best.entries, values }
  }
}

/** `a/b` before `a/{x}` before `{x}/b`, as text. */
const rank = ({ segments }: Place) => segments.map(({ name }) => name === undefined ? 0 : 1).join('')

/** The route for a method; HEAD is answered wherever GET is (RFC 9110 §9.3.2). @throws {Problem} 404, or 405 with `allow`. */
export function entryFor(match: Match | undefined, method: string): Entry {
  if (!match) throw new Problem(404, 'ERR_LAMEDUCK_OPS_NOT_FOUND', 'there is nothing here')
  const entry = match.entries.get(method === 'HEAD' ? 'GET' : method)
  if (entry) return entry
  const allow = [...match.entries.keys()].flatMap(name => name === 'GET' ? ['GET', 'HEAD'] : [name])
  throw new Problem(405, 'ERR_LAMEDUCK_OPS_METHOD', `this takes ${allow.join(', ')}`, { allow })
}
