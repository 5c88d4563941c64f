import fc from 'fast-check'

/** What a client does next. */
export type Step =
  | { do: 'ask', path: string, post: boolean }
  | { do: 'pipeline', paths: string[] }
  | { do: 'halves', cut: 'head' | 'body', pauseMs: number, path: string }
  | { do: 'idle', ms: number }
  /** A request, and another one before it is answered. */
  | { do: 'hurry', path: string, afterMs: number }
  | { do: 'probe', path: '/livez' | '/readyz' }
  | { do: 'events' }
  | { do: 'upgrade', replies: boolean }
  | { do: 'half for ever' } | { do: 'abort' } | { do: 'reset' } | { do: 'abort in flight' } | { do: 'half-close' }

/** What only the deadline ends: a handler that never answers; an answer that is never read. */
export type Stuck = 'hang' | 'unread'

export interface Script {
  startMs: number
  polite: boolean
  /** Sends one more request after it was told to go. */
  rude: boolean
  steps: Step[]
  /** After the last step. */
  stuck: Stuck | undefined
}

export interface Plan {
  drainMs: number
  quietMs: number
  lameduckMs: number
  clients: Script[]
}

const path = fc.constantFrom('/', '/', '/slow?ms=3', '/slow?ms=25', '/stream?ms=15', '/early', '/early')
const ms = fc.integer({ min: 0, max: 45 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant('ask' as const), path, post: fc.boolean() }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('idle' as const), ms }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('pipeline' as const), paths: fc.array(path, { minLength: 2, maxLength: 4 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('halves' as const), cut: fc.constantFrom('head' as const, 'body' as const), pauseMs: ms, path }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('hurry' as const), path, afterMs: fc.integer({ min: 0, max: 10 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('probe' as const), path: fc.constantFrom('/livez' as const, '/readyz' as const) }) },
  { weight: 1, arbitrary: fc.constant({ do: 'events' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('upgrade' as const), replies: fc.boolean() }) },
  { weight: 2, arbitrary: fc.constantFrom<Step>({ do: 'abort' }, { do: 'reset' }, { do: 'abort in flight' }, { do: 'half-close' }, { do: 'half for ever' }) },
)
const script: fc.Arbitrary<Script> = fc.record({
  startMs: fc.integer({ min: 0, max: 40 }),
  polite: fc.boolean(),
  rude: fc.boolean(),
  steps: fc.array(step, { maxLength: 5 }),
  // Rare: each costs its plan the whole time until the deadline.
  stuck: fc.oneof({ weight: 60, arbitrary: fc.constant(undefined) }, { weight: 2, arbitrary: fc.constantFrom<Stuck>('hang', 'unread') }),
})

export const plans: fc.Arbitrary<Plan> = fc.record({
  drainMs: fc.integer({ min: 0, max: 70 }),
  quietMs: fc.constantFrom(20, 40, 100),
  lameduckMs: fc.constantFrom(0, 0, 0, 25),
  clients: fc.array(script, { minLength: 1, maxLength: 10 }),
})

const one = (steps: Step[], more: Partial<Script> = {}): Script => ({ startMs: 0, polite: true, rude: false, steps, stuck: undefined, ...more })

/** What may be missing from a few dozen random ones: begun well before the drain, each way in which a client stays until it is told … */
export const STAYERS: Plan = {
  drainMs: 250,
  quietMs: 40,
  lameduckMs: 25,
  clients: [
    one([{ do: 'events' }]),
    one([{ do: 'upgrade', replies: true }]),
    one([{ do: 'upgrade', replies: false }], { polite: false }),
    one([{ do: 'half for ever' }]),
    one([{ do: 'ask', path: '/', post: true }], { polite: false, rude: true }),
    one([{ do: 'probe', path: '/readyz' }, { do: 'idle', ms: 240 }, { do: 'probe', path: '/readyz' }, { do: 'probe', path: '/livez' }]),
  ],
}

/** … and in which it stays until the deadline. */
export const STUCK: Plan = {
  ...STAYERS,
  clients: [
    ...STAYERS.clients,
    one([{ do: 'ask', path: '/', post: false }], { stuck: 'hang' }),
    one([], { polite: false, rude: true, stuck: 'hang' }),
    one([], { stuck: 'unread' }),
  ],
}
